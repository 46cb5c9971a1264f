"""The adapter that makes any causal language model look the same: texts in, next-token logits out.

Source of the interface: transformers' ``AutoModelForCausalLM``; a chat template is text here, and
only ``templates.render`` runs it.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gifthorse.core.errors import ModelError, NotApplicableError
from gifthorse.core.language import TextGenerator
from gifthorse.core.types import Need
from gifthorse.models.classifier import PassMeter
from gifthorse.models.language.templates import DEFAULT_DATE, chats, render


@dataclass(frozen=True, kw_only=True, eq=False)
class LanguageModel:
    """A causal language model with its tokenizer.

    The module is not copied (it is large): it is moved to ``device``, set to evaluation mode and
    frozen.

    Attributes:
        module: A transformers ``…ForCausalLM``.
        tokenizer: The fast tokenizer that belongs to it.
        name: For records and messages.
        device: Where it runs.
        chat_template: The Jinja source that makes a prompt of a conversation; None for none.
        source: ``directory``, ``adapter``, ``gguf`` or ``memory``.
        notes: Facts about its loading that a reader of a record should know.

    Raises:
        ModelError: The tokenizer knows more tokens than the model.
    """

    module: Any
    tokenizer: Any
    name: str
    device: torch.device
    chat_template: str | None = None
    source: str = "memory"
    notes: tuple[str, ...] = ()
    meter: PassMeter = field(default_factory=PassMeter)

    def __post_init__(self) -> None:
        size = self.embeddings.num_embeddings
        if len(self.tokenizer) > size:
            raise ModelError(
                f"{self.name}: the tokenizer knows {len(self.tokenizer)} tokens and the model only "
                f"{size}; they do not belong together"
            )
        self.module.to(self.device)
        self.module.eval().requires_grad_(False)

    @property
    def offers(self) -> frozenset[Need]:
        """A local model grants everything."""
        return frozenset({Need.LOGITS, Need.GRADIENTS, Need.WEIGHTS})

    @property
    def embeddings(self) -> nn.Embedding:
        """The layer that turns tokens into vectors."""
        layer = self.module.get_input_embeddings()
        if not isinstance(layer, nn.Embedding):
            raise ModelError(f"{self.name}: no table of token embeddings was found")
        return layer

    @property
    def parameters(self) -> int:
        """How many weights it has; tied ones count once."""
        return sum(p.numel() for p in self.module.parameters())

    @property
    def pad_id(self) -> int:
        """What fills batches up; masked everywhere, so any token will do."""
        for found in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id):
            if found is not None:
                return int(found)
        return 0

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Tokens that end an answer."""
        told = getattr(getattr(self.module, "generation_config", None), "eos_token_id", None)
        found = {self.tokenizer.eos_token_id, *(told if isinstance(told, list) else [told])}
        size = self.embeddings.num_embeddings
        return tuple(sorted(i for i in found if isinstance(i, int) and 0 <= i < size))

    def prompts(
        self, users: Sequence[str], *, system: str = "", date: str = DEFAULT_DATE
    ) -> list[str]:
        """What the model reads when a user says these things, up to where its answer begins.

        Without a chat template the texts are joined by line breaks. A template that refuses a
        system prompt gets it in front of the user's text.

        Raises:
            ModelError: The template is hostile or fails.
        """
        return render(
            self.chat_template,
            chats(users, system=system),
            special=self._special(),
            date=date,
            name=self.name,
        )

    def encode(self, text: str) -> list[int]:
        """Token ids of a rendered prompt: no token is added that the text does not hold."""
        plain = self.chat_template is None
        return [int(i) for i in self.tokenizer.encode(text, add_special_tokens=plain)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens, special ones included."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False))

    def batch(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Token ids and attention mask, both (n, longest), padded on the left."""
        longest = max(len(row) for row in rows)
        ids = torch.full((len(rows), longest), self.pad_id, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, longest - len(row) :] = torch.tensor(row, dtype=torch.long)
            mask[i, longest - len(row) :] = 1
        return ids.to(self.device), mask.to(self.device)

    def logits(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Next-token logits (n, length, vocabulary) in float32; differentiable in the weights."""
        self.meter.forward += len(ids)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        out = self.module(input_ids=ids, attention_mask=mask, position_ids=positions)
        return torch.as_tensor(out.logits).float()

    @torch.inference_mode()
    def answers(self, prompts: Sequence[str], *, tokens: int, batch_size: int = 16) -> list[str]:
        """Greedy continuations of rendered prompts, cut where the model ends its answer.

        ``generation_config.json`` has no say in it.

        Args:
            prompts: As ``prompts`` returns them.
            tokens: At most so many new tokens each.
            batch_size: Prompts at a time.
        """
        found: list[str] = []
        for start in range(0, len(prompts), batch_size):
            rows = [self.encode(text) for text in prompts[start : start + batch_size]]
            found += [self.text_of(ids) for ids in self.continued(rows, tokens=tokens)]
        return found

    @torch.inference_mode()
    def continued(self, rows: Sequence[Sequence[int]], *, tokens: int) -> list[list[int]]:
        """Greedy continuations of token rows, end-of-answer tokens left out."""
        from transformers import DynamicCache

        ids, mask = self.batch(rows)
        ends = torch.tensor(self.end_ids, device=self.device)
        cache, step, out = DynamicCache(), ids, []
        alive = torch.ones(len(ids), dtype=torch.bool, device=self.device)
        for _ in range(tokens):
            self.meter.forward += len(ids)
            positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -step.shape[1] :]
            logits = self.module(
                input_ids=step,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
            step = logits.argmax(-1, keepdim=True)
            alive &= ~torch.isin(step[:, 0], ends)
            out.append(torch.where(alive, step[:, 0], -1))
            if not bool(alive.any()):
                break
            mask = torch.cat([mask, torch.ones_like(step)], 1)
        columns = torch.stack(out, 1).tolist() if out else [[] for _ in rows]
        return [[int(i) for i in row if i >= 0] for row in columns]

    def text_of(self, ids: Sequence[int]) -> str:
        """The text of an answer, special tokens left out."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def replaced(self, module: nn.Module, *, name: str | None = None) -> "LanguageModel":
        """The same tokenizer and template around another module."""
        return LanguageModel(
            module=module,
            tokenizer=self.tokenizer,
            name=name or self.name,
            device=self.device,
            chat_template=self.chat_template,
        )

    def digest(self) -> str:
        """``sha256:…`` over architecture, vocabulary, chat template and every weight."""
        sha = hashlib.sha256()
        vocabulary = sorted(self.tokenizer.get_vocab().items())
        sha.update(json.dumps([vocabulary, self.chat_template]).encode())
        kinds = [(key, type(part).__qualname__) for key, part in self.module.named_modules()]
        sha.update(json.dumps(kinds).encode())
        for key, value in sorted(self.module.state_dict().items()):
            sha.update(f"{key}{tuple(value.shape)}{value.dtype}".encode())
            flat = value.detach().cpu().contiguous().view(-1)
            sha.update(flat.view(torch.uint8).numpy().data)
        return f"sha256:{sha.hexdigest()}"

    def _special(self) -> dict[str, str]:
        """The special tokens that a chat template may name."""
        found = self.tokenizer.special_tokens_map
        return {key: value for key, value in found.items() if isinstance(value, str)}


def as_language_model(model: TextGenerator | None) -> LanguageModel:
    """The adapter behind ``LanguageSubject.model``.

    Raises:
        NotApplicableError: It is of another kind.
    """
    if not isinstance(model, LanguageModel):
        raise NotApplicableError("this method examines language models, and was given none")
    return model
