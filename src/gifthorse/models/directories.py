"""What every model directory must pass before transformers sees it; never runs code from it."""

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from gifthorse.core.errors import ModelError

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")
_HUB_PATTERNS = ["*.json", "*.safetensors", "*.jinja"]
_HUB_NAME = re.compile(r"(?:https?://huggingface\.co/)?([\w.-]+/[\w.-]+?)/?")
_LARGEST_JSON = 32 << 20


def model_directory(source: str | Path) -> Path:
    """The directory that a user named; ``hub:OWNER/NAME`` downloads JSON and safetensors files.

    Raises:
        ModelError: There is none.
    """
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
            raise ModelError(_not_fetched(text[4:], error)) from error
    path = Path(source)
    if not path.exists():
        named = _HUB_NAME.fullmatch(text)
        hub = f"hub:{named.group(1)}" if named else "hub:OWNER/NAME"
        raise ModelError(
            f"no such model: {text}; expected a directory with config.json and model.safetensors, "
            f"or {hub} to download one"
        )
    if not path.is_dir():
        raise ModelError(
            f"{path} is a single file; expected the directory that holds config.json and "
            "model.safetensors"
        )
    return path


def _not_fetched(name: str, error: Exception) -> str:
    """One sentence: which of a wrong name, no such model, no permission and no network it was."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
    )

    if isinstance(error, HFValidationError):
        why = "that is no name on the hub; expected OWNER/NAME"
    elif isinstance(error, GatedRepoError):
        why = "its owner lets only some people download it; log in with `hf auth login`"
    elif isinstance(error, RepositoryNotFoundError):
        why = "there is no such model, or it is private"
    else:
        why = f"the hub cannot be reached and the model is not in the cache ({one_line(error)})"
    return f"cannot fetch {name!r} from the hub: {why}; a local directory always works"


def read_json(path: Path, purpose: str) -> dict[str, Any]:
    """A JSON object from a file; ``purpose`` completes "it …" where the file is missing.

    Raises:
        ModelError: Missing, too large, no JSON, or no object.
    """
    try:
        size = path.stat().st_size
        if size > _LARGEST_JSON:
            raise ModelError(
                f"{path} has {size:,} bytes; such a file has at most {_LARGEST_JSON:,}, so it was "
                "not opened"
            )
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{path} is missing; it {purpose}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(data, dict):
        raise ModelError(f"{path} holds a {type(data).__name__}; expected a JSON object")
    return data


def check_config(directory: Path, config: dict[str, Any]) -> None:
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


def check_weights(directory: Path) -> None:
    """Every safetensors file that transformers would open is whole, every number in it finite."""
    index = directory / "model.safetensors.index.json"
    if (directory / "model.safetensors").exists():
        files = ["model.safetensors"]  # transformers prefers it to an index
    elif index.exists():
        shards = read_json(index, "lists the shards").get("weight_map")
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


def one_line(error: Exception) -> str:
    """Somebody else's exception, short enough for a message."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}"
