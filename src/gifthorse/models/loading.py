"""Opens an image-classification directory in the Hugging Face layout; never runs code from it.

Only safetensors weights are opened. A directory that holds nothing but a pickle is refused, and
``trust_remote_code`` is only ever passed as False (left out, transformers would ask on the
terminal). Keys of ``config.json`` that make transformers load other weights than those checked
here, or code from a hub, are refused.
"""

import math
from pathlib import Path
from typing import Any

import torch

from gifthorse.core.errors import ModelError
from gifthorse.models.classifier import ImageClassifier, Preprocessing
from gifthorse.models.directories import (
    check_config,
    check_weights,
    model_directory,
    one_line,
    read_json,
)


def load_classifier(
    source: str | Path,
    *,
    image_size: tuple[int, int] | None = None,
    device: torch.device | str = "cpu",
) -> ImageClassifier:
    """Open an image classifier.

    Args:
        source: A directory with ``config.json``, ``model.safetensors`` (or shards with their
            index) and, as a rule, ``preprocessor_config.json``; or ``hub:OWNER/NAME``, which
            downloads those files.
        image_size: (height, width) to assume if the directory does not say.
        device: Where the model runs.

    Raises:
        ModelError: Missing, truncated, not an image classifier, only a pickle, or the weights do
            not fit the configuration.
    """
    directory = model_directory(source)
    config = read_json(directory / "config.json", "describes the model")
    check_config(directory, config)
    _check_labels(directory, config)
    check_weights(directory)
    module, names = _build(directory, config)
    pre = _preprocessing(directory, module.config, image_size)
    return ImageClassifier(
        module, class_names=names, preprocessing=pre, name=str(source), device=device
    )


def resize_goal(source: str | Path) -> tuple[int, int] | None:
    """The (height, width) that a model directory resizes pictures to; None if it does not resize.

    Raises:
        ModelError: There is no readable model directory.
    """
    directory = model_directory(source)
    read_json(directory / "config.json", "describes the model")
    path = directory / "preprocessor_config.json"
    data = read_json(path, "") if path.exists() else {}
    try:
        return _preprocessor_size(data) if data.get("do_resize", False) else None
    except (TypeError, ValueError, KeyError, IndexError, ArithmeticError) as error:
        raise ModelError(f"{path} is not understood: {error}") from error


def _check_labels(directory: Path, config: dict[str, Any]) -> None:
    """``id2label``, if there, maps whole numbers to names; transformers fails less clearly."""
    labels = config.get("id2label")
    if labels is None:
        return
    if not isinstance(labels, dict):
        raise ModelError(
            f"{directory}: id2label in config.json is a {type(labels).__name__}; expected an "
            'object such as {"0": "cat", "1": "dog"}'
        )
    for key in labels:
        if not key.isdecimal():
            raise ModelError(
                f"{directory}: id2label in config.json has the key {key[:40]!r}; expected the "
                'number of a class, such as "0"'
            )


def _name_of(value: Any, place: int) -> str:
    """Some files keep several words for a class, or none."""
    if isinstance(value, list | tuple):
        return ", ".join(str(part) for part in value)
    return f"class {place}" if value is None else str(value)


def _build(directory: Path, config: dict[str, Any]) -> tuple[Any, tuple[str, ...]]:
    import transformers
    from transformers import AutoConfig, AutoModelForImageClassification

    from gifthorse.models import flat_model, preact

    preact.register()
    flat_model.register()
    model_type = config.get("model_type")
    previous = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        parsed = AutoConfig.from_pretrained(
            directory, local_files_only=True, trust_remote_code=False
        )
        if type(parsed) not in AutoModelForImageClassification._model_mapping:  # noqa: SLF001
            raise ModelError(
                f"{directory}: model type {model_type!r} is no image classifier that "
                "transformers knows"
            )
        module, info = AutoModelForImageClassification.from_pretrained(
            directory,
            config=parsed,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, with a better reason
            dtype=torch.float32,
        )
    except ModelError:
        raise
    # A hostile config.json can make the constructors fail in any way there is.
    except Exception as error:
        raise ModelError(
            f"{directory}: config.json and the weights do not make an image classifier: "
            f"{one_line(error)}"
        ) from error
    finally:
        transformers.logging.set_verbosity(previous)
    absent = sorted(info["missing_keys"]) + [str(key) for key in info["mismatched_keys"]]
    if absent:
        raise ModelError(
            f"{directory}: {len(absent)} weights are missing or of another shape than config.json "
            f"says (first: {absent[0]}); they would be random"
        )
    names = {int(key): _name_of(name, int(key)) for key, name in module.config.id2label.items()}
    count = int(module.config.num_labels)
    if sorted(names) != list(range(count)):
        raise ModelError(f"{directory}: id2label does not name the classes 0 … {count - 1}")
    return module, tuple(names[i] for i in range(count))


def _preprocessing(
    directory: Path, config: Any, image_size: tuple[int, int] | None
) -> Preprocessing:
    channels = int(getattr(config, "num_channels", 3))
    path = directory / "preprocessor_config.json"
    data = read_json(path, "") if path.exists() else {}
    try:
        return _parse_preprocessing(
            data, channels, _size(getattr(config, "image_size", None)) or image_size
        )
    except (TypeError, ValueError, KeyError, IndexError, ArithmeticError) as error:
        raise ModelError(f"{path} is not understood: {error}") from error


def _parse_preprocessing(
    data: dict[str, Any], channels: int, fallback: tuple[int, int] | None
) -> Preprocessing:
    kind = str(data.get("image_processor_type", data.get("feature_extractor_type", "")))
    if data.get("do_normalize", "image_mean" in data):
        mean = _per_channel(data.get("image_mean", 0.5), channels)
        std = _per_channel(data.get("image_std", 0.5), channels)
    else:
        mean, std = (0.0,) * channels, (1.0,) * channels
    # The network gets (levels · factor − offset − mean) / std, and our pixels are levels / 255.
    factor = 255.0
    if data.get("do_rescale", True):
        factor *= float(data.get("rescale_factor", 1 / 255))
        if data.get("rescale_offset", False):  # EfficientNet: to [-1, 1]
            mean = tuple(m + 1 for m in mean)
    # EfficientNet divides a second time for classification, after whatever came before.
    if "EfficientNet" in kind and data.get("include_top", True):
        again = _per_channel(data.get("image_std", 0.5), channels)
        std = tuple(s * more for s, more in zip(std, again, strict=True))
    if not math.isclose(factor, 1.0, rel_tol=1e-3):
        mean, std = tuple(m / factor for m in mean), tuple(s / factor for s in std)
    size = _preprocessor_size(data)
    resize = bool(data.get("do_resize", False)) and size is not None
    flipped = bool(data.get("do_flip_channel_order", "MobileViT" in kind)) and channels == 3
    return Preprocessing(
        mean=mean, std=std, size=size or fallback, resize=resize, blue_first=flipped
    )


def _preprocessor_size(data: dict[str, Any]) -> tuple[int, int] | None:
    cropped = data.get("do_center_crop") and data.get("crop_size")
    return _size(data["crop_size"] if cropped else data.get("size"))


def _per_channel(value: Any, channels: int) -> tuple[float, ...]:
    values = [float(v) for v in value] if isinstance(value, list) else [float(value)]
    if len(values) == 1:
        values *= channels
    if len(values) != channels:
        raise ValueError(f"{len(values)} values of mean or std for {channels} channel(s)")
    return tuple(values)


def _size(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    if isinstance(value, dict):
        if "shortest_edge" in value:
            value = value["shortest_edge"]
        elif not {"height", "width"} <= set(value):
            raise ValueError(
                f"a size of {sorted(value)}; expected height and width, or shortest_edge"
            )
        else:
            return _positive(int(value["height"]), int(value["width"]))
    if isinstance(value, list):
        return _positive(int(value[0]), int(value[1]))
    return _positive(int(value), int(value))


def _positive(height: int, width: int) -> tuple[int, int]:
    if not (0 < height <= 4096 and 0 < width <= 4096):
        raise ValueError(f"a picture size of {height}×{width}")
    return height, width
