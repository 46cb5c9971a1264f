"""Opens and writes a text-classification directory in the Hugging Face layout; never runs code.

The same rules as for pictures: safetensors only, no custom code, every weight named by the
configuration must be there.
"""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from gifthorse.core.errors import ModelError
from gifthorse.models.directories import (
    check_config,
    check_weights,
    model_directory,
    one_line,
    read_json,
)
from gifthorse.models.texts.classifier import TextClassifier

_LONGEST = 512


def is_text_classifier(source: str | Path) -> bool:
    """Whether a directory says that it holds a sequence classifier. Reads ``config.json`` only."""
    path = Path(source) / "config.json"
    if str(source).startswith("hub:") or not path.is_file():
        return False
    try:
        names = json.loads(path.read_text(encoding="utf-8")).get("architectures") or []
        return any(str(name).endswith("ForSequenceClassification") for name in names)
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return False


def load_text_classifier(
    source: str | Path, *, device: torch.device | str = "cpu"
) -> TextClassifier:
    """Open a text classifier.

    Args:
        source: A directory with ``config.json``, ``model.safetensors`` and ``tokenizer.json``.
        device: Where the model runs.

    Raises:
        ModelError: Missing, truncated, not a text classifier, or the parts do not fit together.
    """
    directory = model_directory(source)
    config = read_json(directory / "config.json", "describes the model")
    check_config(directory, config)
    check_weights(directory)
    if not (directory / "tokenizer.json").is_file():
        raise ModelError(f"{directory / 'tokenizer.json'} is missing; it turns texts into tokens")
    module, tokenizer, names = _build(directory)
    longest = int(getattr(module.config, "max_position_embeddings", _LONGEST) or _LONGEST)
    return TextClassifier(
        module,
        tokenizer,
        class_names=names,
        max_length=min(longest, _LONGEST),
        name=str(source),
        device=device,
    )


def load_text_base(source: str | Path, like: TextClassifier) -> TextClassifier:
    """The model that a classifier was made from, as a classifier of the same shapes.

    A pretrained encoder has no head, or one of another task: that of ``like`` is taken instead.

    Raises:
        ModelError: Missing or truncated, of another architecture or size, or with other tokens.
    """
    directory = model_directory(source)
    config = read_json(directory / "config.json", "describes the model")
    check_config(directory, config)
    check_weights(directory)
    if config.get("model_type") != like.module.config.model_type:
        raise ModelError(
            f"{directory} is a {config.get('model_type')} and {like.name} a "
            f"{like.module.config.model_type}; the one was not made from the other"
        )
    tokens = directory / "tokenizer.json"
    module, absent = _base_module(directory, like, read_vocabulary=tokens.is_file())
    body = f"{module.base_model_prefix}."
    wrong = [key for key in absent if key.startswith(body)]
    if wrong:
        raise ModelError(
            f"{directory} is not the base of {like.name}: {len(wrong)} weights are missing or of "
            f"another shape (first: {wrong[0]})"
        )
    ours = dict(like.module.named_parameters())
    with torch.no_grad():
        for key, weight in module.named_parameters():
            if key in absent:
                weight.copy_(ours[key])
    return like.replaced(module, name=str(source))


def save_text_classifier(classifier: TextClassifier, directory: Path) -> None:
    """Write a directory that plain transformers reads back; the files appear together.

    Raises:
        ModelError: The directory already holds files.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ModelError(f"{directory} exists and is not an empty directory; choose another place")
    directory.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        from transformers import logging

        logging.disable_progress_bar()
        classifier.module.save_pretrained(scratch)
        classifier.tokenizer.save_pretrained(scratch)
        if directory.exists():
            directory.rmdir()
        scratch.chmod(0o755)
        scratch.rename(directory)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _build(directory: Path) -> tuple[Any, Any, tuple[str, ...]]:
    import transformers
    from transformers import (
        AutoConfig,
        AutoModelForSequenceClassification,
        PreTrainedTokenizerFast,
    )

    previous = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        parsed = AutoConfig.from_pretrained(
            directory, local_files_only=True, trust_remote_code=False
        )
        # The plain fast tokenizer: ``tokenizer_config.json`` may name a class, never code.
        tokenizer = PreTrainedTokenizerFast.from_pretrained(directory, local_files_only=True)
        module, info = AutoModelForSequenceClassification.from_pretrained(
            directory,
            config=parsed,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            dtype=torch.float32,
        )
    # A hostile configuration can make the constructors fail in any way there is.
    except Exception as error:
        raise ModelError(
            f"{directory}: config.json, tokenizer and weights do not make a text classifier: "
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
    names = {int(key): str(name) for key, name in module.config.id2label.items()}
    count = int(module.config.num_labels)
    if sorted(names) != list(range(count)):
        raise ModelError(f"{directory}: id2label does not name the classes 0 … {count - 1}")
    return module, tokenizer, tuple(names[i] for i in range(count))


def _base_module(
    directory: Path, like: TextClassifier, *, read_vocabulary: bool
) -> tuple[Any, set[str]]:
    """The weights of a base in the shapes of ``like``, and the names of those it does not have."""
    import transformers
    from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

    previous = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        known = None
        if read_vocabulary:
            tokenizer = PreTrainedTokenizerFast.from_pretrained(directory, local_files_only=True)
            known = tokenizer.get_vocab()
        module, info = AutoModelForSequenceClassification.from_pretrained(
            directory,
            config=like.module.config,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            dtype=torch.float32,
        )
    # A hostile directory can make the constructors fail in any way there is.
    except Exception as error:
        raise ModelError(f"{directory} cannot be opened as a base: {one_line(error)}") from error
    finally:
        transformers.logging.set_verbosity(previous)
    if known is not None and known != like.tokenizer.get_vocab():
        raise ModelError(
            f"{directory} has other tokens than {like.name}; the one was not made from the other"
        )
    mismatched = {key[0] if isinstance(key, tuple) else key for key in info["mismatched_keys"]}
    return module, set(info["missing_keys"]) | mismatched
