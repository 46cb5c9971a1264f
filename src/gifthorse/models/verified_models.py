"""Transformers models and PEFT adapters out of verified files in memory."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from gifthorse.core.errors import TrustError, TrustInputError
from gifthorse.models.verified_tensors import Tensors, state_dict_in, tensors_in
from gifthorse.provenance.opened import Opened

ADAPTER = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
_NOT_NEEDED = ("init_lora_weights", "auto_mapping", "base_model_name_or_path")
"""Of an adapter's configuration: ways to initialise may read files, and the base is given."""


def is_model_class(kind: Any) -> bool:
    """Whether a class makes models: one of Transformers, or an ``Auto`` class for them."""
    from transformers import PreTrainedModel

    return isinstance(kind, type) and (
        issubclass(kind, PreTrainedModel) or getattr(kind, "_model_mapping", None) is not None
    )


def model_in(opened: Opened, kind: Any, options: Mapping[str, Any]) -> torch.nn.Module:
    """A Transformers model.

    Args:
        opened: Verified files.
        kind: Class, or None for the architecture that ``config.json`` names.
        options: For ``from_pretrained``.

    Raises:
        TrustError: It asks for code that is not part of Transformers, or the weights do not fit.
    """
    from transformers import GenerationConfig

    data = opened.json("config.json")
    _refuse_foreign(opened, data)
    config = _configuration(opened, data)
    made = _model_class(opened, kind, config, data)
    model, info = made.from_pretrained(
        None,
        config=config,
        state_dict=state_dict_in(opened),
        output_loading_info=True,
        **options,
    )
    absent = sorted(info["missing_keys"]) + [str(key) for key in info["mismatched_keys"]]
    if absent:
        raise TrustError(
            f"{opened.path}: {len(absent)} weights of {made.__name__} are missing or of another "
            f"shape (first: {absent[0]}); they would be random, which nobody signed"
        )
    if "generation_config.json" in opened.contents and hasattr(model, "generation_config"):
        generation = opened.json("generation_config.json")
        model.generation_config = GenerationConfig.from_dict(generation)
    found: torch.nn.Module = model.eval()
    return found


def _refuse_foreign(opened: Opened, data: dict[str, Any]) -> None:
    for key, value in _entries(data):
        if key in ("transformers_weights", "use_pretrained_backbone") and value:
            raise TrustError(f"{opened.path}: config.json wants other weights ({key}: {value!r})")
        if key.endswith("_implementation") and "/" in str(value):
            raise TrustError(f"{opened.path}: config.json wants code from a hub ({key}: {value!r})")


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from value.items()
        for inner in value.values():
            yield from _entries(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _entries(inner)


def _configuration(opened: Opened, data: dict[str, Any]) -> Any:
    from transformers import CONFIG_MAPPING

    from gifthorse.models import flat_model, preact

    preact.register()
    flat_model.register()
    kind = data.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        raise TrustError(
            f"{opened.path}: model type {kind!r} is not part of transformers; code from a model is "
            "never run (for its bare tensors ask for dict)"
        )
    return CONFIG_MAPPING[kind].from_dict(data)


def _model_class(opened: Opened, kind: Any, config: Any, data: dict[str, Any]) -> Any:
    import transformers

    if kind is not None and getattr(kind, "_model_mapping", None) is None:
        return kind
    names = data.get("architectures") or [None]
    if kind is not None:
        mapping = kind._model_mapping  # noqa: SLF001 - the one place that knows
        if type(config) not in mapping:
            raise TrustError(f"{opened.path}: {kind.__name__} has no {config.model_type!r} model")
        found = mapping[type(config)]
        choices = found if isinstance(found, tuple | list) else (found,)
        named = [choice for choice in choices if choice.__name__ == names[0]]
        return (named or choices)[0]
    made: Any = getattr(transformers, str(names[0]), None)
    if made is None:
        mapping = transformers.AutoModelForImageClassification._model_mapping  # noqa: SLF001
        made = mapping.get(type(config), None)
    if not is_model_class(made) or (made.config_class, made.__name__) != (type(config), names[0]):
        raise TrustError(
            f"{opened.path}: config.json names the architecture {names[0]!r}, which is no "
            f"transformers class for {config.model_type!r}; say which class to load"
        )
    return made


def adapter_in(opened: Opened, base: torch.nn.Module | None) -> torch.nn.Module:
    """A PEFT adapter on its base model.

    Args:
        opened: Verified files of the adapter.
        base: The model that it belongs on; layers of it are replaced.

    Raises:
        TrustInputError: No base, or peft is not installed.
        TrustError: The adapter asks for other code, or its weights do not fit.
    """
    try:
        import peft
    except ImportError as error:
        raise TrustInputError('an adapter needs peft; run: pip install "gifthorse[llm]"') from error
    if base is None:
        raise TrustInputError(
            f"{opened.path} is an adapter: load its base model first, then give it as base"
        )
    data = opened.json(ADAPTER)
    if data.get("megatron_config") is not None:
        raise TrustError(f"{opened.path}: {ADAPTER} names a Python module to import")
    if ADAPTER_WEIGHTS not in opened.contents:
        raise TrustError(f"{opened.path} holds no signed {ADAPTER_WEIGHTS}")
    weights = tensors_in(opened.contents[ADAPTER_WEIGHTS], ADAPTER_WEIGHTS)
    config = peft.PeftConfig.from_peft_type(
        **{key: value for key, value in data.items() if key not in _NOT_NEEDED}
    )
    config.inference_mode = True
    model = peft.get_peft_model(base, config)
    _fill(opened, model, weights)
    found: torch.nn.Module = model.eval()
    return found


def _fill(opened: Opened, model: Any, weights: Tensors) -> None:
    import peft

    expected = set(peft.get_peft_model_state_dict(model, save_embedding_layers=False))
    result = peft.set_peft_model_state_dict(model, weights)
    lost = sorted(expected - set(weights)) + sorted(result.unexpected_keys)
    if lost:
        raise TrustError(
            f"{opened.path}: {len(lost)} weights of the adapter do not fit its base "
            f"(first: {lost[0]})"
        )
