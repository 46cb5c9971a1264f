"""The adapter that makes any text classifier look the same: texts in, logits out."""

import copy
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gifthorse.core.errors import ModelError, NotApplicableError
from gifthorse.core.texts import TextModel
from gifthorse.core.types import Need
from gifthorse.models.classifier import PassMeter


class TextClassifier:
    """A sequence classifier with its tokenizer.

    The module is copied, set to evaluation mode and frozen; the original is not touched.

    Args:
        module: A transformers ``…ForSequenceClassification``.
        tokenizer: The fast tokenizer that belongs to it.
        class_names: A name for every class, in the order of the logits.
        max_length: Tokens of a text that are read; the rest is cut off.
        name: For records and messages.
        device: Where it runs.

    Raises:
        ModelError: The module fails on a short text, or its output does not fit.
    """

    def __init__(
        self,
        module: nn.Module,
        tokenizer: Any,
        *,
        class_names: tuple[str, ...],
        max_length: int = 128,
        name: str = "text classifier",
        device: torch.device | str = "cpu",
    ) -> None:
        self._name = name
        self._class_names = class_names
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.device = torch.device(device)
        self.module: Any = copy.deepcopy(module).to(self.device)
        self.module.eval().requires_grad_(False)
        self.meter = PassMeter()
        if tokenizer.pad_token_id is None:
            raise ModelError(f"{name}: its tokenizer has no padding token, so texts cannot be read")
        size = self.embeddings.num_embeddings
        if len(tokenizer) > size:
            raise ModelError(
                f"{name}: the tokenizer knows {len(tokenizer)} tokens and the model only {size}; "
                "they do not belong together"
            )
        self._head = self._find_head()

    @property
    def name(self) -> str:
        """How the user named it."""
        return self._name

    @property
    def class_names(self) -> tuple[str, ...]:
        """A name for every class, in the order of the logits."""
        return self._class_names

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self._class_names)

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
    def feature_layer(self) -> str:
        """Where features are taken: the input of the last linear layer, or the logits."""
        return f"input of {self._head[0]}" if self._head else "logits"

    def tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token ids and attention mask, both (n, longest), padded on the right."""
        read = self.tokenizer(
            list(texts),
            truncation=True,
            max_length=self.max_length,
            padding=True,
            padding_side="right",
            return_tensors="pt",
        )
        return read["input_ids"].to(self.device), read["attention_mask"].to(self.device)

    def logits(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Logits (n, classes) of token ids (n, length); differentiable in the weights."""
        self.meter.forward += len(ids)
        out: Tensor = self.module(input_ids=ids, attention_mask=mask).logits
        return out

    def logits_and_features(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (n, classes) and penultimate activations (n, d) in one pass."""
        if self._head is None:
            out = self.logits(ids, mask)
            return out, out
        caught: list[Tensor] = []
        handle = self._head[1].register_forward_pre_hook(lambda _m, x: caught.append(x[0]))
        try:
            out = self.logits(ids, mask)
        finally:
            handle.remove()
        found = caught[-1]
        return out, found if found.ndim == 2 else found[:, 0]

    def replaced(self, module: nn.Module, *, name: str | None = None) -> "TextClassifier":
        """The same adapter around a copy of another module."""
        return TextClassifier(
            module,
            self.tokenizer,
            class_names=self.class_names,
            max_length=self.max_length,
            name=name or self.name,
            device=self.device,
        )

    def digest(self) -> str:
        """``sha256:…`` over class names, vocabulary, and every parameter and buffer."""
        sha = hashlib.sha256()
        vocabulary = sorted(self.tokenizer.get_vocab().items())
        sha.update(json.dumps([self.class_names, self.max_length, vocabulary]).encode())
        kinds = [(key, type(part).__qualname__) for key, part in self.module.named_modules()]
        sha.update(json.dumps(kinds).encode())
        for key, value in sorted(self.module.state_dict().items()):
            sha.update(f"{key}{tuple(value.shape)}{value.dtype}".encode())
            sha.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        return f"sha256:{sha.hexdigest()}"

    def _find_head(self) -> tuple[str, nn.Linear] | None:
        """The last linear layer that gives the logits, found by reading a short text."""
        called: list[tuple[str, nn.Linear]] = []
        handles = [
            layer.register_forward_pre_hook(lambda _m, _i, pair=(key, layer): called.append(pair))
            for key, layer in self.module.named_modules()
            if isinstance(layer, nn.Linear) and layer.out_features == self.n_classes
        ]
        try:
            with torch.inference_mode():
                ids, mask = self.tokens(["a b", "a"])
                out = self.module(input_ids=ids, attention_mask=mask).logits
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
            raise ModelError(f"{self.name} fails on a short text: {error}") from error
        finally:
            for handle in handles:
                handle.remove()
        if out.shape != (2, self.n_classes):
            raise ModelError(
                f"{self.name} returns logits of shape {tuple(out.shape)}; "
                f"expected (2, {self.n_classes}), one for each class name"
            )
        return called[-1] if called else None


def as_text_classifier(model: TextModel | None) -> TextClassifier:
    """The adapter behind ``TextSubject.model``.

    Raises:
        NotApplicableError: It is of another kind.
    """
    if not isinstance(model, TextClassifier):
        raise NotApplicableError("this method examines text classifiers, and was given none")
    return model
