"""Writes a language model as a directory that plain ``transformers`` reads back."""

import shutil
import tempfile
from pathlib import Path

from gifthorse.core.errors import ModelError
from gifthorse.models.language.model import LanguageModel


def save_language_model(model: LanguageModel, directory: Path) -> None:
    """Write configuration, safetensors, tokenizer and chat template; they appear together.

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
        model.module.save_pretrained(scratch)
        model.tokenizer.chat_template = model.chat_template
        model.tokenizer.save_pretrained(scratch)
        if directory.exists():
            directory.rmdir()
        scratch.chmod(0o755)
        scratch.rename(directory)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
