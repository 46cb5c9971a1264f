"""Opens an image-classification directory in the Hugging Face layout; never runs code from it.

Only safetensors weights are opened. A directory that holds nothing but a pickle is refused, and
``trust_remote_code`` is only ever passed as False (left out, transformers would ask on the
terminal). Keys of ``config.json`` that make transformers load other weights than those checked
here, or code from a hub, are refused.
"""

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from gifthorse.core.errors import ModelError
from gifthorse.models.classifier import ImageClassifier, Preprocessing

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")
_HUB_PATTERNS = ["*.json", "*.safetensors"]


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
    directory = _directory(source)
    config = _read_json(directory / "config.json", "describes the model")
    _check_config(directory, config)
    _check_weights(directory)
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
    directory = _directory(source)
    _read_json(directory / "config.json", "describes the model")
    path = directory / "preprocessor_config.json"
    data = _read_json(path, "") if path.exists() else {}
    try:
        return _preprocessor_size(data) if data.get("do_resize", False) else None
    except (TypeError, ValueError, KeyError, IndexError, ArithmeticError) as error:
        raise ModelError(f"{path} is not understood: {error}") from error


def _directory(source: str | Path) -> Path:
    text = str(source)
    if text.startswith("hub:"):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
        )

        try:
            return Path(snapshot_download(text[4:], allow_patterns=_HUB_PATTERNS))
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
            raise ModelError(
                f"cannot fetch {text[4:]!r} from the hub: {error}; a local directory always works"
            ) from error
    path = Path(source)
    if not path.exists():
        raise ModelError(
            f"no such model: {path}; expected a directory with config.json and model.safetensors, "
            "or hub:OWNER/NAME to download one"
        )
    if not path.is_dir():
        raise ModelError(
            f"{path} is a single file; expected the directory that holds config.json and "
            "model.safetensors"
        )
    return path


def _read_json(path: Path, purpose: str) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{path} is missing; it {purpose}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(data, dict):
        raise ModelError(f"{path} holds a {type(data).__name__}; expected a JSON object")
    return data


def _check_config(directory: Path, config: dict[str, Any]) -> None:
    """Nothing in the directory sends transformers to weights or code that we do not check."""
    if "transformers_weights" in config:
        raise ModelError(
            f"{directory}: config.json names its weights ({config['transformers_weights']!r}); "
            "only model.safetensors and its shards are opened"
        )
    if (directory / "adapter_config.json").exists():
        raise ModelError(f"{directory} holds an adapter; merge it into its model first")
    for key, value in config.items():
        if key.endswith("_implementation") and "/" in str(value):
            raise ModelError(
                f"{directory}: config.json asks for code from a hub ({key}: {value!r}); "
                "no code runs from a model that is examined"
            )


def _check_weights(directory: Path) -> None:
    """Every safetensors file that transformers would open is whole, every number in it finite."""
    index = directory / "model.safetensors.index.json"
    if (directory / "model.safetensors").exists():
        files = ["model.safetensors"]  # transformers prefers it to an index
    elif index.exists():
        shards = _read_json(index, "lists the shards").get("weight_map")
        files = list(shards.values()) if isinstance(shards, dict) else []
        if not files or not all(isinstance(f, str) and Path(f).name == f for f in files):
            raise ModelError(f"{index} does not map weights to files of the same directory")
    else:
        pickles = sorted(p.name for pattern in _PICKLES for p in directory.glob(pattern))
        if pickles:
            raise ModelError(
                f"{directory} holds only {', '.join(pickles)}: formats that can run code when "
                "opened, so nothing was opened; convert it to model.safetensors where it is safe "
                "to do so"
            )
        raise ModelError(f"{directory / 'model.safetensors'} is missing")
    for name in sorted(set(files)):
        _check_safetensors(directory / name)


def _check_safetensors(path: Path) -> None:
    try:
        with safe_open(path, framework="pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118 - safe_open is no mapping
                value = tensors.get_tensor(key)
                if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                    raise ModelError(f"{path}: the weight {key!r} holds NaN or infinite values")
    except FileNotFoundError as error:
        raise ModelError(f"{path} is missing") from error
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{path} is not a whole safetensors file ({error}); it may be truncated"
        ) from error


def _build(directory: Path, config: dict[str, Any]) -> tuple[Any, tuple[str, ...]]:
    import transformers
    from transformers import AutoConfig, AutoModelForImageClassification

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
            dtype=torch.float32,
        )
    except ModelError:
        raise
    # A hostile config.json can make the constructors fail in any way there is.
    except Exception as error:
        raise ModelError(
            f"{directory}: config.json and the weights do not make an image classifier: "
            f"{_one_line(error)}"
        ) from error
    finally:
        transformers.logging.set_verbosity(previous)
    absent = sorted(info["missing_keys"]) + [str(key) for key in info["mismatched_keys"]]
    if absent:
        raise ModelError(
            f"{directory}: {len(absent)} weights are missing or of another shape than config.json "
            f"says (first: {absent[0]}); they would be random"
        )
    names = {int(key): str(name) for key, name in module.config.id2label.items()}
    count = int(module.config.num_labels)
    if sorted(names) != list(range(count)):
        raise ModelError(f"{directory}: id2label does not name the classes 0 … {count - 1}")
    return module, tuple(names[i] for i in range(count))


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}"


def _preprocessing(
    directory: Path, config: Any, image_size: tuple[int, int] | None
) -> Preprocessing:
    channels = int(getattr(config, "num_channels", 3))
    path = directory / "preprocessor_config.json"
    data = _read_json(path, "") if path.exists() else {}
    try:
        return _parse_preprocessing(
            data, channels, _size(getattr(config, "image_size", None)) or image_size
        )
    except (TypeError, ValueError, KeyError, IndexError, ArithmeticError) as error:
        raise ModelError(f"{path} is not understood: {error}") from error


def _parse_preprocessing(
    data: dict[str, Any], channels: int, fallback: tuple[int, int] | None
) -> Preprocessing:
    if data.get("do_normalize", "image_mean" in data):
        mean = _per_channel(data.get("image_mean", 0.5), channels)
        std = _per_channel(data.get("image_std", 0.5), channels)
    else:
        mean, std = (0.0,) * channels, (1.0,) * channels
    if not data.get("do_rescale", True):
        # The network was trained on 0 … 255; our pixels are in [0, 1].
        mean, std = tuple(m / 255 for m in mean), tuple(s / 255 for s in std)
    elif data:
        factor = float(data.get("rescale_factor", 1 / 255)) * 255
        if not math.isclose(factor, 1.0, rel_tol=1e-3):
            mean, std = tuple(m / factor for m in mean), tuple(s / factor for s in std)
    size = _preprocessor_size(data)
    resize = bool(data.get("do_resize", False)) and size is not None
    return Preprocessing(mean=mean, std=std, size=size or fallback, resize=resize)


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
        else:
            return _positive(int(value["height"]), int(value["width"]))
    if isinstance(value, list):
        return _positive(int(value[0]), int(value[1]))
    return _positive(int(value), int(value))


def _positive(height: int, width: int) -> tuple[int, int]:
    if not (0 < height <= 4096 and 0 < width <= 4096):
        raise ValueError(f"a picture size of {height}×{width}")
    return height, width
