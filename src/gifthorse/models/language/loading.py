"""Opens a causal language model as people hand it on; never runs code from it.

A directory in the Hugging Face layout (safetensors, shards too), a LoRA adapter with its base, or a
GGUF file, whose weights are dequantised. The same rules as for pictures: no pickle, no custom code,
every weight that the configuration names must be there; and what a hostile configuration can make
us allocate is bounded by the weights that are really in the files.
"""

import io
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from gifthorse.core.errors import DataError, ModelError
from gifthorse.core.types import Verdict
from gifthorse.models.directories import (
    check_config,
    check_weights,
    model_directory,
    one_line,
    read_json,
)
from gifthorse.models.language.adapters import base_at_hand, merge_adapter, read_adapter
from gifthorse.models.language.model import LanguageModel
from gifthorse.models.language.templates import LONGEST_TEMPLATE, check_template
from gifthorse.provenance.files.scan import scan_files

_LARGEST_TOKENIZER = 64 << 20
_MOST_LAYERS = 1000
_SLACK = 1.1
_BROKEN = frozenset({"broken", "not-examined", "gguf-overlap", "limit"})


def is_language_model(source: str | Path) -> bool:
    """Whether a path is a GGUF file, a LoRA adapter, or a causal language model's directory.

    Reads the names of files and ``config.json`` only, after fetching what is on a hub.

    Raises:
        ModelError: The hub does not give it.
    """
    path = Path(source)
    if path.is_file():
        return path.suffix.lower() == ".gguf"
    if str(source).startswith("hub:"):
        path = model_directory(source)
    if (path / "adapter_config.json").is_file():
        return True
    try:
        names = read_json(path / "config.json", "describes the model").get("architectures") or []
        return any(str(name).endswith(("ForCausalLM", "LMHeadModel")) for name in names)
    except (ModelError, TypeError):
        return False


def load_language_model(
    source: str | Path,
    *,
    base: str | Path | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> LanguageModel:
    """Open a causal language model.

    Args:
        source: A directory with ``config.json``, ``model.safetensors`` (or shards with their index)
            and ``tokenizer.json``; a LoRA adapter's directory; a ``.gguf`` file; or
            ``hub:OWNER/NAME``.
        base: The model that an adapter belongs to; by default the one that the adapter names, if it
            is a directory or file at hand. Not used for whole models.
        device: Where the model runs.
        dtype: Of the weights in memory.

    Raises:
        ModelError: Missing, truncated, no language model, or the parts do not fit together.
    """
    where, path = torch.device(device), Path(source)
    if path.suffix.lower() == ".gguf" and path.is_file():
        return _load_gguf(path, where, dtype)
    directory = model_directory(source)
    if (directory / "adapter_config.json").is_file():
        return _load_adapter(directory, str(source), base, where, dtype)
    config = read_json(directory / "config.json", "describes the model")
    check_config(directory, config)
    check_weights(directory)
    tokenizer = _tokenizer(directory)
    module = _module(directory, config, dtype)
    return _assembled(module, tokenizer, str(source), where, "directory")


def _load_adapter(
    directory: Path,
    name: str,
    base: str | Path | None,
    device: torch.device,
    dtype: torch.dtype,
) -> LanguageModel:
    adapter = read_adapter(directory)
    place = Path(base) if base is not None else base_at_hand(adapter)
    if str(place).startswith("hub:"):
        place = model_directory(str(base))
    if (place / "adapter_config.json").is_file():
        raise ModelError(f"{place} is an adapter itself; a base is a whole model")
    whole = load_language_model(place, device=device, dtype=dtype)
    merge_adapter(adapter, whole.module)
    own = (directory / "tokenizer.json").is_file()
    tokenizer = _tokenizer(directory) if own else whole.tokenizer
    notes = [f"a LoRA adapter, merged into {place}"]
    if base is not None and adapter.base not in ("", str(base)):
        notes.append(f"the adapter names {adapter.base!r} as its base, and {base} was given")
    return _assembled(whole.module, tokenizer, name, device, "adapter", tuple(notes))


def _load_gguf(path: Path, device: torch.device, dtype: torch.dtype) -> LanguageModel:
    _check_gguf(path)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with _quiet():
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                path.parent, gguf_file=path.name, local_files_only=True, trust_remote_code=False
            )
            module, info = AutoModelForCausalLM.from_pretrained(
                path.parent,
                gguf_file=path.name,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                dtype=dtype,
            )
        except ImportError as error:
            raise ModelError(
                "opening GGUF files needs more packages: pip install 'gifthorse[llm]' "
                f"({one_line(error)})"
            ) from error
        # Another's parser on bytes from anywhere can fail in any way.
        except Exception as error:
            raise ModelError(f"{path} does not make a language model: {one_line(error)}") from error
    _check_complete(path, info)
    # The weights are plain numbers now; left in place, this would spoil a directory written later.
    for holder, key in ((module.config, "quantization_config"), (module, "hf_quantizer")):
        if hasattr(holder, key):
            delattr(holder, key)
    for key, value in module.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ModelError(f"{path}: the weight {key!r} holds NaN or infinite values")
    notes = ("a GGUF file, dequantised",)
    return _assembled(module, tokenizer, str(path), device, "gguf", notes)


def _check_gguf(path: Path) -> None:
    """Our own reader goes first: it bounds what a header can make others allocate."""
    try:
        scanned = scan_files(path).files[0]
    except DataError as error:
        raise ModelError(str(error)) from error
    if "gguf" not in scanned.formats:
        raise ModelError(f"{path} is called .gguf and is none")
    for issue in scanned.issues:
        if issue.verdict is Verdict.FLAGGED or issue.rule in _BROKEN:
            raise ModelError(f"{path}: {issue.text}; it was not opened")


def _assembled(
    module: Any,
    tokenizer: Any,
    name: str,
    device: torch.device,
    source: str,
    notes: tuple[str, ...] = (),
) -> LanguageModel:
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
        notes = (*notes, "of several chat templates the one called 'default' is used")
    if template is not None:
        check_template(str(template), name)
    model = LanguageModel(
        module=module,
        tokenizer=tokenizer,
        name=name,
        device=device,
        chat_template=None if template is None else str(template),
        source=source,
        notes=notes,
    )
    _try(model)
    return model


def _try(model: LanguageModel) -> None:
    """One pass over a few tokens: a model that cannot do that is not worth a long examination."""
    try:
        with torch.inference_mode():
            logits = model.logits(*model.batch([model.encode("a b"), model.encode("a")]))
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise ModelError(f"{model.name} fails on a short text: {one_line(error)}") from error
    if not bool(torch.isfinite(logits).all()):
        raise ModelError(f"{model.name} gives NaN or infinite logits; the model is broken")


def _tokenizer(directory: Path) -> Any:
    from transformers import PreTrainedTokenizerFast

    path = directory / "tokenizer.json"
    if not path.is_file():
        raise ModelError(f"{path} is missing; it turns texts into tokens")
    if path.stat().st_size > _LARGEST_TOKENIZER:
        raise ModelError(
            f"{path} has {path.stat().st_size:,} bytes; a tokenizer has at most "
            f"{_LARGEST_TOKENIZER:,}"
        )
    for name in ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
        if (directory / name).exists():
            read_json(directory / name, "describes the tokenizer")
    template = directory / "chat_template.jinja"
    if template.exists() and template.stat().st_size > 4 * LONGEST_TEMPLATE:
        raise ModelError(f"{template} has {template.stat().st_size:,} bytes; it was not opened")
    with _quiet():
        # The plain fast tokenizer: ``tokenizer_config.json`` may name a class, never code.
        try:
            return PreTrainedTokenizerFast.from_pretrained(directory, local_files_only=True)
        except Exception as error:
            raise ModelError(f"{path} does not make a tokenizer: {one_line(error)}") from error


def _module(directory: Path, config: dict[str, Any], dtype: torch.dtype) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    _check_depth(directory, config)
    with _quiet():
        try:
            parsed = AutoConfig.from_pretrained(
                directory, local_files_only=True, trust_remote_code=False
            )
            if type(parsed) not in AutoModelForCausalLM._model_mapping:  # noqa: SLF001
                raise ModelError(
                    f"{directory}: model type {config.get('model_type')!r} is no causal language "
                    "model that transformers knows"
                )
            _check_size(directory, parsed)
            module, info = AutoModelForCausalLM.from_pretrained(
                directory,
                config=parsed,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                dtype=dtype,
            )
        except ModelError:
            raise
        # A hostile configuration can make the constructors fail in any way there is.
        except Exception as error:
            raise ModelError(
                f"{directory}: config.json and the weights do not make a language model: "
                f"{one_line(error)}"
            ) from error
    _check_complete(directory, info)
    return module


def _check_depth(directory: Path, config: dict[str, Any]) -> None:
    """A configuration of a billion layers is not even built without weights."""
    waiting: list[Any] = [config]
    while waiting:
        node = waiting.pop()
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for key, value in items:
            if isinstance(value, dict | list):
                waiting.append(value)
            named = isinstance(key, str) and key.lower().endswith(("layers", "layer", "experts"))
            if named and isinstance(value, int | float) and value > _MOST_LAYERS:
                raise ModelError(
                    f"{directory}: config.json asks for {key} = {value}; none has more than "
                    f"{_MOST_LAYERS}"
                )


def _check_size(directory: Path, parsed: Any) -> None:
    """Builds the network without memory and compares its size with the weights in the files."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        sketch = AutoModelForCausalLM.from_config(parsed, trust_remote_code=False)
    asked = sum(p.numel() for p in sketch.parameters())
    held = 0
    for path in directory.glob("*.safetensors"):
        with safe_open(path, framework="pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118 - safe_open is no mapping
                shape = tensors.get_slice(key).get_shape()
                held += int(torch.Size(shape).numel())
    if asked > _SLACK * held + 1_000_000:
        raise ModelError(
            f"{directory}: config.json describes {asked:,} weights and the files hold {held:,}"
        )


def _check_complete(place: Path, info: dict[str, Any]) -> None:
    absent = sorted(info["missing_keys"]) + [str(key) for key in info["mismatched_keys"]]
    if absent:
        raise ModelError(
            f"{place}: {len(absent)} weights are missing or of another shape than the "
            f"configuration says (first: {absent[0]}); they would be random"
        )


class _quiet:  # noqa: N801 - reads as a statement
    """Transformers without its messages and progress bars."""

    def __enter__(self) -> None:
        import transformers

        self._before = transformers.logging.get_verbosity()
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        self._silence = redirect_stderr(io.StringIO())  # the bar of the GGUF reader has no switch
        self._silence.__enter__()

    def __exit__(self, *_: object) -> None:
        import transformers

        self._silence.__exit__(None, None, None)
        transformers.logging.set_verbosity(self._before)
