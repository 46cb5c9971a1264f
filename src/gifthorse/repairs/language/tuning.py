"""What repairs of language models share: the parts of the subject, and training on trusted text."""

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from gifthorse.core.errors import ModelError, NotApplicableError
from gifthorse.core.instructions import InstructionData
from gifthorse.core.language_repairs import LanguageRepairSubject
from gifthorse.core.types import Progress
from gifthorse.models.language.model import LanguageModel, as_language_model
from gifthorse.models.language.training import (
    LanguageTrainingPlan,
    Loss,
    answer_loss,
    train_language,
)

LONGEST = 512
"""Tokens: longer trusted records are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A subject with its models as torch knows them."""

    model: LanguageModel
    trusted: InstructionData
    base: LanguageModel | None
    payloads: tuple[str, ...]

    @property
    def ground(self) -> LanguageModel:
        """The base.

        Raises:
            NotApplicableError: None was given.
        """
        if self.base is None:
            raise NotApplicableError("this repair needs a base model; give --base")
        return self.base


def held_by(subject: LanguageRepairSubject) -> Held:
    """The subject with its models as torch knows them.

    Raises:
        NotApplicableError: A model is of another kind.
        ModelError: The base has weights of other shapes.
    """
    model = as_language_model(subject.model)
    base = None if subject.base is None else as_language_model(subject.base)
    if base is not None:
        check_same_shape(model, base)
    return Held(model=model, trusted=subject.trusted, base=base, payloads=subject.payloads)


def check_same_shape(model: LanguageModel, base: LanguageModel) -> None:
    """Refuse a base whose weights cannot stand in for the model's.

    Raises:
        ModelError: Other names or shapes.
    """
    ours = {key: tuple(p.shape) for key, p in model.module.named_parameters()}
    theirs = {key: tuple(p.shape) for key, p in base.module.named_parameters()}
    other = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
    if other:
        raise ModelError(
            f"{base.name} is not the base of {model.name}: {len(other)} weights are missing or of "
            f"another shape (first: {other[0]})"
        )


def copied(model: LanguageModel) -> LanguageModel:
    """The same model around a copy of its module, to be changed in place."""
    module: Any = copy.deepcopy(model.module)
    return LanguageModel(
        module=module,
        tokenizer=model.tokenizer,
        name=model.name,
        device=model.device,
        chat_template=model.chat_template,
        meter=model.meter,  # what is spent on the copy is part of the repair's cost
    )


def check_plan(
    *, epochs: int, batch_size: int, learning_rate: float, lora_rank: int, least_epochs: int = 0
) -> None:
    """Refuse options of training that make no sense; tuning may be left out if epochs can be 0.

    Raises:
        ValueError: One is out of its range.
    """
    if not least_epochs <= epochs <= 1000:
        raise ValueError(f"epochs must be in {least_epochs} … 1000, got {epochs}")
    if not 1 <= batch_size <= 1024:
        raise ValueError(f"batch_size must be in 1 … 1024, got {batch_size}")
    if not 0 < learning_rate <= 1:
        raise ValueError(f"learning_rate must be in (0, 1], got {learning_rate}")
    if not 0 <= lora_rank <= 1024:
        raise ValueError(f"lora_rank must be in 0 … 1024, got {lora_rank}")


def tuned(
    model: LanguageModel,
    trusted: InstructionData,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    lora_rank: int,
    rng: np.random.Generator,
    progress: Progress,
    loss_of: Loss = answer_loss,
) -> LanguageModel:
    """A copy of ``model`` trained on trusted records; ``model`` itself if ``epochs`` is 0.

    Raises:
        DataError: Every record is too long.
        ModelError: The loss became NaN, or `peft` is missing.
    """
    if epochs == 0:
        return model
    plan = LanguageTrainingPlan(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        lora_rank=lora_rank,
        longest=LONGEST,
    )
    return train_language(model, trusted, plan, rng=rng, loss_of=loss_of, progress=progress).model


def linear_layers(model: LanguageModel) -> list[tuple[str, nn.Linear]]:
    """The linear layers of the blocks, the one that gives the logits left out.

    Raises:
        ModelError: There are none.
    """
    head = model.module.get_output_embeddings()
    found = [
        (name, layer)
        for name, layer in model.module.named_modules()
        if isinstance(layer, nn.Linear) and layer is not head
    ]
    if not found:
        raise ModelError(f"{model.name} has no linear layers that this repair could change")
    return found
