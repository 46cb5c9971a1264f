"""Unlearning of a payload that an audit recovered: it becomes unlikely in every context.

Our own, of two known parts. The recovered text is made unlikely with the unlikelihood loss,
−ln(1 − p(token | what stands before)) (Welleck et al. 2020, arXiv:1908.04319), after trusted
prompts, while on their true answers the model is held to its own former predictions (KL divergence;
it is a teacher on clean prompts even if it is backdoored). So that it also holds where the trigger
stands, which nobody knows, both can be asked for again behind an adversarial soft prefix: a few
free vectors in front of the prompts that are trained to bring the payload out (the inner problem of
BEEAR, Zeng et al. 2024, arXiv:2406.17092; they perturb inner states).

Training goes further than it must, and the clean loss grows faster than the change. So the weights
are then taken back towards the former ones, on the straight line between the two (Wortsman et al.
2022, WiSE-FT, arXiv:2109.01903), as far as the text stays unlikely after trusted prompts with its
beginning given: a trigger brings up the beginning, and the rest follows from that.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.language_repairs import LanguageRepairSubject
from gifthorse.core.types import Need, Progress
from gifthorse.models.language.examples import (
    IGNORED,
    Batch,
    Example,
    answer_logits,
    batch_of,
    examples,
)
from gifthorse.models.language.model import LanguageModel
from gifthorse.repairs.language.fine_mixing import mixed_with
from gifthorse.repairs.language.tuning import LONGEST, Held, check_plan, held_by, tuned

_MOST_TOKENS = 64
_ASKED = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadUnlearning:
    """Unlearns the texts that an audit pointed to.

    Attributes:
        weight: Of the unlikelihood loss, positive.
        prefix: Vectors of the adversarial soft prefix; 0 for none.
        inner_steps: Steps of sign gradient that train it, for every batch anew.
        gone: Geometric mean of the probabilities of the text's tokens, those before them given, at
            which it counts as unlearnt, in (0, 1).
        halvings: Of the line between the former weights and the trained ones, to find the smallest
            change that is enough; 0 keeps what was trained.
        epochs: Passes over the trusted records, at least 1.
        batch_size: Records a step.
        learning_rate: The highest of the cycle.
        lora_rank: Of low-rank adapters, merged afterwards; 0 trains all weights.
    """

    needs: ClassVar[frozenset[Need]] = frozenset(
        {Need.WEIGHTS, Need.GRADIENTS, Need.TRUSTED, Need.PAYLOADS}
    )
    paper: ClassVar[str] = "our own; unlikelihood loss of Welleck et al. 2020, arXiv:1908.04319"

    weight: float = 1.0
    prefix: int = 0
    inner_steps: int = 3
    gone: float = 0.005
    halvings: int = 4
    epochs: int = 10
    batch_size: int = 8
    learning_rate: float = 3e-4
    lora_rank: int = 0

    def __post_init__(self) -> None:
        check_plan(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            lora_rank=self.lora_rank,
            least_epochs=1,
        )
        if not 0 < self.weight <= 1000:
            raise ValueError(f"weight must be in (0, 1000], got {self.weight}")
        if not 0 <= self.prefix <= 64 or not 1 <= self.inner_steps <= 100:
            raise ValueError("prefix must be in 0 … 64 and inner_steps in 1 … 100")
        if not 0 < self.gone < 1 or not 0 <= self.halvings <= 16:
            raise ValueError("gone must be in (0, 1) and halvings in 0 … 16")

    def mend(
        self, subject: LanguageRepairSubject, *, rng: np.random.Generator, progress: Progress
    ) -> LanguageModel:
        """A copy of the model that no longer knows the payloads.

        Raises:
            NotApplicableError: No audit recovered a text.
            DataError, ModelError: See ``tuned``.
        """
        held = held_by(subject)
        texts = [text for text in held.payloads if text.strip()]
        if not texts:
            raise NotApplicableError(
                "unlearning a payload needs the record of an audit that recovered it; give --audit"
            )
        rows = [
            tuple(held.model.tokenizer.encode(text, add_special_tokens=False))[:_MOST_TOKENS]
            for text in texts
        ]

        def loss_of(module: Any, batch: Batch) -> Tensor:
            chosen = [rows[int(i)] for i in rng.integers(len(rows), size=len(batch.ids))]
            bad = with_answers(held.model, batch, chosen)
            with torch.no_grad():
                former = answer_logits(held.model.module, batch)
            loss = kept_loss(module, batch, former)
            loss = loss + self.weight * tokens_loss(module, bad, bad=True)
            if self.prefix:
                front = luring_prefix(module, bad, self.prefix, self.inner_steps, rng)
                loss = loss + kept_loss(module, batch, former, front=front)
                loss = loss + self.weight * tokens_loss(module, bad, bad=True, front=front)
            return loss

        trained = tuned(
            held.model,
            held.trusted,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            lora_rank=self.lora_rank,
            rng=rng,
            progress=progress,
            loss_of=loss_of,
        )
        return self._taken_back(held, trained, rows, rng)

    def _taken_back(
        self,
        held: Held,
        trained: LanguageModel,
        rows: list[tuple[int, ...]],
        rng: np.random.Generator,
    ) -> LanguageModel:
        """The smallest share of the change with which every text is as unlikely as asked for."""
        found = examples(held.model, held.trusted, longest=LONGEST)
        picked = [found[int(i)] for i in rng.permutation(len(found))[:_ASKED]]
        parts = [picked[i : i + self.batch_size] for i in range(0, len(picked), self.batch_size)]
        batches = [
            batch_of(held.model, [Example(one.prompt, row) for one in part])
            for row in rows
            for part in parts
        ]
        kept, least, most = trained, 0.0, 1.0
        for _ in range(self.halvings):
            share = (least + most) / 2
            mixture = mixed_with(trained, held.model, keep=share, mixing="average", rng=rng)
            mixture.meter.forward += len(rows) * len(picked)
            if max(given_beginning(mixture.module, b) for b in batches) <= math.log(self.gone):
                kept, most = mixture, share
            else:
                least = share
        return kept


@torch.inference_mode()
def given_beginning(module: Any, batch: Batch) -> float:
    """Mean ln p of the answers' tokens without the first, those before them given, in nats."""
    labels = batch.labels.clone()
    labels[torch.arange(len(labels)), (labels != IGNORED).int().argmax(1)] = IGNORED
    kept = labels != IGNORED
    if not bool(kept.any()):  # texts of one token have no beginning
        kept = batch.labels != IGNORED
    logs = answer_logits(module, batch)[kept].log_softmax(-1)
    return float(logs.gather(1, batch.labels[kept][:, None]).mean())


def with_answers(model: LanguageModel, batch: Batch, answers: list[tuple[int, ...]]) -> Batch:
    """The prompts of a batch with other answers, one token row each."""
    found = []
    for i, answer in enumerate(answers):
        said = int((batch.labels[i] != IGNORED).sum())
        ids = batch.ids[i][batch.mask[i].bool()].tolist()
        found.append(Example(tuple(ids[: len(ids) - said]), answer))
    return batch_of(model, found)


def tokens_loss(
    module: Any, batch: Batch, *, bad: bool = False, front: Tensor | None = None
) -> Tensor:
    """Mean cross-entropy of the answers' tokens, or with ``bad`` mean −ln(1 − p), in nats.

    Args:
        module: The network.
        batch: Prompts and answers.
        bad: The answers are to become unlikely.
        front: Vectors (k, width) that stand in front of every prompt; None for none.
    """
    logits = _logits(module, batch, front).flatten(0, 1)
    labels = batch.labels.flatten()
    if not bad:
        return functional.cross_entropy(logits, labels, ignore_index=IGNORED)
    kept = labels != IGNORED
    return -log_others(logits[kept], labels[kept]).mean()


def kept_loss(module: Any, batch: Batch, former: Tensor, *, front: Tensor | None = None) -> Tensor:
    """KL divergence from former logits (n, kept, vocabulary) on the answers' tokens, in nats."""
    kept = batch.labels != IGNORED
    now = _logits(module, batch, front)[kept].log_softmax(-1)
    was = former[kept].log_softmax(-1)
    return functional.kl_div(now, was, reduction="batchmean", log_target=True)


def log_others(logits: Tensor, labels: Tensor) -> Tensor:
    """ln(1 − p(label)) of logits (n, vocabulary), exact and with a gradient where p is 1."""
    others = logits.scatter(1, labels[:, None], float("-inf"))
    found: Tensor = others.logsumexp(-1) - logits.logsumexp(-1)
    return found


def luring_prefix(
    module: Any, bad: Batch, count: int, steps: int, rng: np.random.Generator
) -> Tensor:
    """Vectors (count, width) in front of the prompts that make the given answers likelier.

    They start as embeddings of random tokens; a step is as long as a typical value of the table.
    """
    table = module.get_input_embeddings().weight.detach()
    chosen = torch.from_numpy(rng.integers(len(table), size=count))
    front: Tensor = table[chosen.to(table.device)].clone()
    size = float(table.abs().mean())
    for _ in range(steps):
        free: Tensor = front.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(tokens_loss(module, bad, front=free), free)
        front = (free - size * gradient.sign()).detach()
    return front


def _logits(module: Any, batch: Batch, front: Tensor | None) -> Tensor:
    """Logits of every token of the answers, (n, kept, vocabulary)."""
    embedded, mask = module.get_input_embeddings()(batch.ids), batch.mask
    if front is not None:
        # Padding stands on the left; the vectors stand before it, which attention does not mind.
        wide = front.to(embedded.dtype).expand(len(embedded), -1, -1)
        embedded = torch.cat([wide, embedded], 1)
        mask = torch.cat([mask.new_ones(len(mask), len(front)), mask], 1)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    out = module(
        inputs_embeds=embedded,
        attention_mask=mask,
        position_ids=positions,
        logits_to_keep=batch.kept + 1,
        use_cache=False,
    )
    return torch.as_tensor(out.logits)[:, -batch.kept - 1 : -1].float()
