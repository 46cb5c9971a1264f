"""Reads a LoRA adapter and merges it, without the code that its configuration can name.

PEFT imports the module that ``megatron_core`` names and matches regular expressions that the
configuration holds, so the configuration is read here, and the arithmetic is ours: W + s·B·A with
s = alpha/r (Hu et al. 2021, arXiv:2106.09685), s = alpha/√r for rank-stabilised LoRA (Kalajdzievski
2023, arXiv:2312.03732), and m·V/‖V‖ over rows for DoRA (Liu et al. 2024, arXiv:2402.09353). A test
compares it with PEFT's own merge.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from gifthorse.core.errors import ModelError
from gifthorse.models.directories import read_json

_WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_PART = re.compile(
    r"^(?P<module>.+?)\.(?P<part>lora_A|lora_B|lora_embedding_A|lora_embedding_B|"
    r"lora_magnitude_vector)(\.weight)?$"
)
_PLAIN = re.compile(r"^\^?[\w.]+$")
_UNKNOWN_TO_US = (
    "alora_invocation_tokens",
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
    "use_qalora",
    "lora_bias",
    "megatron_config",
    "use_bdlora",
    "velora_config",
    "kasa_config",
    "monteclora_config",
    "arrow_config",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LowRank:
    """The change of one weight: ``scale · up @ down``; ``magnitude`` for DoRA."""

    down: Tensor
    up: Tensor
    scale: float
    magnitude: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A LoRA adapter as it lies in its directory.

    Attributes:
        directory: Where.
        base: What its configuration names as its base; may be a hub's name.
        changes: By the name of the module in the base.
        replaced: Whole tensors that take the place of the base's, by their name.
        transposed: Whether the base keeps its linear weights as (in, out).
    """

    directory: Path
    base: str
    changes: dict[str, LowRank]
    replaced: dict[str, Tensor]
    transposed: bool


def read_adapter(directory: Path) -> Adapter:
    """Read a LoRA adapter's configuration and weights.

    Raises:
        ModelError: Missing, truncated, no LoRA adapter of a causal model, or not understood.
    """
    config = read_json(directory / "adapter_config.json", "describes the adapter")
    kind = str(config.get("peft_type"))
    if kind.upper() != "LORA":
        raise ModelError(f"{directory}: an adapter of type {kind!r}; only LoRA is understood")
    if config.get("task_type") not in (None, "CAUSAL_LM"):
        raise ModelError(
            f"{directory}: an adapter for the task {config['task_type']!r}; expected CAUSAL_LM"
        )
    asked = [key for key in _UNKNOWN_TO_US if config.get(key)]
    if asked:
        raise ModelError(f"{directory}: adapter_config.json uses {asked[0]!r}, not supported here")
    parts, replaced = _sorted_parts(directory)
    changes = {
        module: _low_rank(directory, config, module, found) for module, found in parts.items()
    }
    if not changes and not replaced:
        raise ModelError(f"{directory / _WEIGHTS} changes nothing")
    return Adapter(
        directory=directory,
        base=str(config.get("base_model_name_or_path") or ""),
        changes=changes,
        replaced=replaced,
        transposed=bool(config.get("fan_in_fan_out", False)),
    )


def base_at_hand(adapter: Adapter) -> Path:
    """The base that an adapter names, if that is a directory or file here.

    Raises:
        ModelError: It is not.
    """
    named = adapter.base
    for place in (Path(named), adapter.directory / named) if named else ():
        if (place / "config.json").is_file() or (place.is_file() and place.suffix == ".gguf"):
            return place
    raise ModelError(
        f"{adapter.directory} is an adapter for {named or 'a base that it does not name'!r}, which "
        "is not at hand; name the base's directory (--base)"
    )


def merge_adapter(adapter: Adapter, module: nn.Module) -> None:
    """Change a base's weights, in place, to what base and adapter are together.

    Raises:
        ModelError: The adapter belongs to another base: a weight is not there, or of another shape.
    """
    touched = {*adapter.changes, *(name.removesuffix(".weight") for name in adapter.replaced)}
    _untie(module, touched)
    parts = dict(module.named_modules())
    own = module.state_dict()
    for name, value in adapter.replaced.items():
        target = own.get(name)
        if target is None:
            raise ModelError(f"{adapter.directory} sets {name!r}, which its base does not have")
        if target.shape != value.shape:
            raise ModelError(_other_base(adapter, name, value, target))
        target.data.copy_(value)
    for name, change in adapter.changes.items():
        weight = getattr(parts.get(name), "weight", None)
        if not isinstance(weight, Tensor):
            raise ModelError(f"{adapter.directory} changes {name!r}, which its base does not have")
        delta = low_rank_delta(change)
        if adapter.transposed and not isinstance(parts[name], nn.Linear | nn.Embedding):
            delta = delta.T
        if delta.shape != weight.shape:
            raise ModelError(_other_base(adapter, name, delta, weight))
        merged = weight.data.float() + delta
        if change.magnitude is not None:
            merged = merged * (change.magnitude / merged.norm(dim=1)).unsqueeze(1)
        weight.data.copy_(merged)


def _untie(module: Any, touched: set[str]) -> None:
    """An adapter of the embedding table leaves the output layer alone, so they part."""
    table, head = module.get_input_embeddings(), module.get_output_embeddings()
    names = {part: name for name, part in module.named_modules()}
    if head is None or head.weight is not table.weight:
        return
    if touched & {names[table], names[head]}:
        head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=False)
        module.config.tie_word_embeddings = False


def low_rank_delta(change: LowRank) -> Tensor:
    """The change as one matrix (out, in), float32."""
    return change.scale * (change.up.float() @ change.down.float())


def _other_base(adapter: Adapter, name: str, got: Tensor, wanted: Tensor) -> str:
    return (
        f"{adapter.directory} was made for another base: its change of {name!r} has shape "
        f"{tuple(got.shape)}, and the base's weight {tuple(wanted.shape)}"
    )


def _sorted_parts(directory: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    path = directory / _WEIGHTS
    if not path.exists() and (directory / "adapter_model.bin").exists():
        raise ModelError(f"{directory} holds only adapter_model.bin, a pickle; it was not opened")
    parts: dict[str, dict[str, Tensor]] = {}
    replaced: dict[str, Tensor] = {}
    try:
        with safe_open(path, framework="pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118 - safe_open is no mapping
                value = tensors.get_tensor(key)
                if not value.is_floating_point() or not bool(torch.isfinite(value).all()):
                    raise ModelError(f"{path}: {key!r} is not made of finite numbers")
                name = key.removeprefix(_PREFIX)
                found = _PART.match(name)
                if found:
                    parts.setdefault(found["module"], {})[found["part"]] = value
                else:
                    replaced[name.replace(".base_layer.", ".")] = value
    except FileNotFoundError as error:
        raise ModelError(f"{path} is missing") from error
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{path} is not a whole safetensors file ({error}); it may be truncated"
        ) from error
    return parts, replaced


def _low_rank(
    directory: Path, config: dict[str, Any], module: str, parts: dict[str, Tensor]
) -> LowRank:
    table = "lora_embedding_A" in parts
    down = parts.get("lora_embedding_A" if table else "lora_A")
    up = parts.get("lora_embedding_B" if table else "lora_B")
    if down is None or up is None or down.ndim != 2 or up.ndim != 2 or up.shape[1] != down.shape[0]:
        raise ModelError(f"{directory / _WEIGHTS}: the two factors for {module!r} do not fit")
    rank = down.shape[0]
    alpha = _listed(directory, config, "alpha_pattern", module, config.get("lora_alpha", 8))
    scale = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / max(rank, 1)
    if table:  # B (width, r) · A (r, tokens) changes the table, which is (tokens, width)
        return LowRank(down=up.T, up=down.T, scale=scale)
    return LowRank(down=down, up=up, scale=scale, magnitude=parts.get("lora_magnitude_vector"))


def _listed(directory: Path, config: dict[str, Any], key: str, module: str, default: Any) -> float:
    """A number that may be set for single modules; only plain names, no regular expressions."""
    patterns = config.get(key) or {}
    value = default
    for pattern, listed in patterns.items() if isinstance(patterns, dict) else ():
        if not _PLAIN.match(pattern):
            raise ModelError(f"{directory}: {key} holds the expression {pattern[:80]!r}")
        plain = pattern.removeprefix("^")
        if module == plain or (plain == pattern and module.endswith(f".{plain}")):
            value = listed
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ModelError(f"{directory}: adapter_config.json gives {value!r} for {key}")
    return float(value)
