"""Writes a classifier as a directory that plain ``transformers`` reads back."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from gifthorse.core.errors import ModelError
from gifthorse.models.classifier import ImageClassifier


def save_classifier(classifier: ImageClassifier, directory: Path) -> None:
    """Write ``config.json``, ``model.safetensors`` and ``preprocessor_config.json``.

    The files appear together: they are written beside the goal and renamed.

    Raises:
        ModelError: The model is not a transformers model, or the directory already holds files.
    """
    from transformers import PreTrainedModel

    if not isinstance(classifier.module, PreTrainedModel):
        raise ModelError(
            f"{classifier.name} is a {type(classifier.module).__name__}; only transformers models "
            "can be written as a model directory"
        )
    if directory.exists() and not directory.is_dir():
        raise ModelError(f"{directory} is a file; choose another place")
    if directory.exists() and any(directory.iterdir()):
        raise ModelError(f"{directory} exists and is not empty; choose another place")
    directory.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        _write_files(classifier, classifier.module, scratch)
        # mkdtemp makes it private; a model directory is as readable as any other.
        scratch.chmod(0o755)
        if directory.exists():
            directory.rmdir()
        scratch.replace(directory)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _write_files(classifier: ImageClassifier, module: Any, scratch: Path) -> None:
    from transformers import logging

    logging.disable_progress_bar()
    module.save_pretrained(scratch)
    _write_names(scratch / "config.json", classifier.class_names)
    pre, shape = classifier.preprocessing, classifier.input_shape
    if pre.blue_first:
        raise ModelError(
            f"{classifier.name} takes blue first, and no processor's file says all of it"
        )
    (scratch / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "image_processor_type": "ViTImageProcessor",
                "do_resize": pre.resize,
                "size": {"height": shape[1], "width": shape[2]},
                "do_rescale": True,
                "rescale_factor": 1 / 255,
                "do_normalize": True,
                "image_mean": list(pre.mean),
                "image_std": list(pre.std),
            },
            indent=2,
        )
        + "\n",
        encoding="utf-8",
    )


def _write_names(path: Path, names: tuple[str, ...]) -> None:
    """The adapter's class names, which need not be those that the module came with."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["id2label"] = {str(i): name for i, name in enumerate(names)}
    config["label2id"] = {name: i for i, name in enumerate(names)}
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
