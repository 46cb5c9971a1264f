"""Loads what someone trusted has signed: verified and loaded are the same bytes.

    model = gifthorse.load("./model", policy="trust.toml", name="acme/signs")
    model = gifthorse.load("./model", AutoModelForCausalLM, key="alice.pub")
    model, tokenizer = gifthorse.load("./model", (AutoModelForCausalLM, AutoTokenizer), key=…)

Every file is opened once, read into private memory and hashed there; tensors are views of that
memory, and JSON is parsed from it. So there is no moment at which a file can be exchanged between
check and use. Classes that can only read files (tokenizers, processors) get copies of those bytes
in a new directory that only this user can enter, and that is gone afterwards.

A signature proves origin, not that the content is harmless. So formats that can run code are not
loaded however well they are signed, and code from the directory or a hub never runs.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch

from gifthorse.core.errors import TrustError, TrustInputError
from gifthorse.models.directories import one_line
from gifthorse.models.verified_models import ADAPTER, adapter_in, is_model_class, model_in
from gifthorse.models.verified_readers import read_copies
from gifthorse.models.verified_tensors import state_dict_in
from gifthorse.provenance.opened import Opened, open_verified
from gifthorse.provenance.policy import Policy
from gifthorse.provenance.trusting import Key, trusted

_NEVER = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack", "*.onnx", "*.gguf")
_OURS = frozenset(
    {"config", "state_dict", "trust_remote_code", "use_safetensors", "local_files_only"}
    | {"output_loading_info", "subfolder", "variant", "gguf_file", "revision", "code_revision"}
    | {"pretrained_model_name_or_path", "adapter_kwargs", "key_mapping", "weights_only"}
)


def load(
    path: Path | str,
    kind: Any = None,
    *,
    policy: Policy | Path | str | None = None,
    key: Key | Sequence[Key] | None = None,
    name: str | None = None,
    signature: Path | str | None = None,
    base: torch.nn.Module | None = None,
    options: Mapping[str, Any] | None = None,
) -> Any:
    """Verify a signed model and load exactly the bytes that were verified.

    Args:
        path: A directory (Transformers model, PEFT adapter, tokenizer, plain weights) or one
            safetensors file.
        kind: What to make of it: a class with ``from_pretrained`` such as ``AutoModelForCausalLM``
            or ``AutoTokenizer``; ``dict`` for the plain tensors; or a tuple of these. By default
            an adapter, the architecture that ``config.json`` names, or else plain tensors.
        policy: Who may sign what: ``trust.toml`` or a policy that was read.
        key: Instead of a policy: a public key that must have signed, or several of which each must.
        name: The name that must have been signed. Without it, a model that was signed properly for
            another purpose passes.
        signature: Signature file; default inside the directory or beside the file.
        base: The model that an adapter belongs on, loaded before.
        options: Further arguments for ``from_pretrained``, like ``{"dtype": torch.bfloat16}``.

    Returns:
        What was asked for, in evaluation mode; tensors are on the CPU unless ``options`` say.

    Raises:
        TrustError: Anything does not hold, or cannot be loaded without running code. Its child
            `TrustInputError` says that the question was wrong.
    """
    kinds = kind if isinstance(kind, tuple) else (kind,)
    given = dict(options or {})
    if _OURS & set(given):
        raise TrustInputError(f"options may not hold {', '.join(sorted(_OURS & set(given)))}")
    whom = trusted(policy, key)
    weights = any(one in (None, dict) or is_model_class(one) for one in kinds)

    def wanted(file: str) -> bool:
        if any(fnmatchcase(file.lower(), pattern) for pattern in _NEVER):
            return False
        return weights or not file.endswith(".safetensors")

    opened = open_verified(
        Path(path),
        policy=whom,
        signature=None if signature is None else Path(signature),
        name=name,
        wanted=wanted,
    )
    try:
        made = tuple(_make(opened, one, base, given) for one in kinds)
    except TrustError:
        raise
    # A signed file can still be broken, and libraries then fail in any way there is.
    except Exception as error:
        raise TrustError(f"{path} is signed, but cannot be loaded: {one_line(error)}") from error
    return made if isinstance(kind, tuple) else made[0]


def _make(
    opened: Opened, kind: Any, base: torch.nn.Module | None, options: Mapping[str, Any]
) -> Any:
    if kind is None and ADAPTER in opened.contents:
        return adapter_in(opened, base)
    if base is not None:
        raise TrustInputError(f"a base was given, but {opened.path} holds no {ADAPTER}")
    if kind is dict or (kind is None and "config.json" not in opened.contents):
        return state_dict_in(opened)
    if kind is None or is_model_class(kind):
        return model_in(opened, kind, options)
    if not hasattr(kind, "from_pretrained"):
        raise TrustInputError(f"{kind!r} is neither a class with from_pretrained nor dict")
    return read_copies(opened, kind, options)
