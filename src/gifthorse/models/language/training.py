"""The one training loop for language models: all weights, or low-rank adapters (`peft`)."""

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gifthorse.core.errors import ModelError
from gifthorse.core.instructions import InstructionData
from gifthorse.core.rng import draw_seed
from gifthorse.core.types import Progress, silent
from gifthorse.models.language.examples import (
    IGNORED,
    Batch,
    answer_logits,
    batch_of,
    examples,
    mixed,
)
from gifthorse.models.language.model import LanguageModel
from gifthorse.models.schedules import one_cycle

Loss = Callable[[Any, Batch], Tensor]
"""From the module in training and a batch to a scalar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageTrainingPlan:
    """How to train: AdamW with a one-cycle schedule; the loss is on the answers alone.

    Attributes:
        epochs: Passes over the data.
        batch_size: Records a step.
        learning_rate: The highest, reached after a tenth of the steps.
        lora_rank: Of low-rank adapters on all linear layers (Hu et al. 2021, arXiv:2106.09685;
            alpha is twice the rank); 0 trains all weights.
        longest: Records of more tokens are left out.
        weight_decay: Decoupled.
    """

    epochs: int = 3
    batch_size: int = 16
    learning_rate: float = 1e-3
    lora_rank: int = 0
    longest: int = 160
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1 or self.learning_rate <= 0 or self.longest < 8:
            raise ValueError(f"a plan needs positive numbers, got {self}")
        if self.lora_rank < 0:
            raise ValueError(f"lora_rank must be at least 0, got {self.lora_rank}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LowRankAdapter:
    """What LoRA training learnt, as `peft` writes it."""

    config: Any
    weights: dict[str, Tensor]

    def save(self, directory: Path, *, base: str) -> None:
        """Write a directory as `peft` reads it; its configuration names ``base``."""
        from safetensors.torch import save_file

        directory.mkdir(parents=True, exist_ok=True)
        config = copy.deepcopy(self.config)
        config.base_model_name_or_path = base
        config.inference_mode = True
        config.save_pretrained(directory)
        save_file(self.weights, directory / "adapter_model.safetensors")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A trained model, and the adapter that is merged into it if there is one."""

    model: LanguageModel
    adapter: LowRankAdapter | None = None


def answer_loss(module: Any, batch: Batch) -> Tensor:
    """Mean cross-entropy of the answers' tokens, in nats."""
    logits = answer_logits(module, batch)
    return functional.cross_entropy(
        logits.flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORED
    )


def train_language(
    model: LanguageModel,
    data: InstructionData,
    plan: LanguageTrainingPlan,
    *,
    rng: np.random.Generator,
    loss_of: Loss = answer_loss,
    progress: Progress = silent,
) -> Trained:
    """A trained copy of ``model``; the given one is not changed.

    Args:
        model: Any causal language model.
        data: What to learn.
        plan: How.
        rng: Of order, dropout and the adapters' weights.
        loss_of: What is minimised.
        progress: Called after every step.

    Raises:
        DataError: Every record is too long.
        ModelError: The loss became NaN, or `peft` is missing.
    """
    found = examples(model, data, longest=plan.longest)
    student = copy.deepcopy(model.module)
    with torch.random.fork_rng():
        torch.manual_seed(draw_seed(rng))
        module = _with_adapters(student, plan.lora_rank) if plan.lora_rank else student
        if not plan.lora_rank:
            module.requires_grad_(True)
        module.train()
        weights = [p for p in module.parameters() if p.requires_grad]
        total = -(-len(found) // plan.batch_size) * plan.epochs
        optimizer = torch.optim.AdamW(
            weights, lr=plan.learning_rate, weight_decay=plan.weight_decay
        )
        schedule = one_cycle(optimizer, learning_rate=plan.learning_rate, steps=total, rise=0.1)
        done = 0
        for _ in range(plan.epochs):
            for rows in mixed(found, plan.batch_size, rng):
                loss = loss_of(module, batch_of(model, [found[int(i)] for i in rows]))
                if not bool(torch.isfinite(loss)):
                    raise ModelError("training diverged: the loss is not finite")
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(weights, 1.0)
                optimizer.step()
                schedule.step()
                done += 1
                progress(done, total, "training")
    model.meter.forward += plan.epochs * len(found)
    model.meter.backward += plan.epochs * len(found)
    return _finished(model, module, plan)


def _with_adapters(module: Any, rank: int) -> Any:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ModelError(
            "low-rank training needs peft; run pip install 'gifthorse[llm]'"
        ) from error
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    with _peft_warnings_off():
        return get_peft_model(module, config)


@contextmanager
def _peft_warnings_off() -> Iterator[None]:
    """Peft asks transformers for things by their former names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def _finished(model: LanguageModel, module: Any, plan: LanguageTrainingPlan) -> Trained:
    if not plan.lora_rank:
        return Trained(model=model.replaced(module))
    from peft import get_peft_model_state_dict

    adapter = LowRankAdapter(
        config=module.peft_config["default"],
        weights={
            key: value.detach().cpu().contiguous().clone()
            for key, value in get_peft_model_state_dict(module).items()
        },
    )
    with _peft_warnings_off():
        merged = module.merge_and_unload()
    return Trained(model=model.replaced(merged), adapter=adapter)
