"""Tensors out of a safetensors file that is in memory already, without a copy.

``safetensors.torch.load`` copies the bytes twice, and its file reader would open the path again.
The rules checked are those of https://github.com/huggingface/safetensors#format, strictly: tensors
lie one behind the other from the header to the end, no name occurs twice.
"""

import struct
from typing import Any

import torch

from gifthorse.core.errors import TrustError
from gifthorse.provenance.envelope import parse_json
from gifthorse.provenance.opened import Opened

INDEX = "model.safetensors.index.json"
WEIGHTS = "model.safetensors"
_MAX_HEADER = 100_000_000
_KINDS = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "I16": torch.int16,
    "U16": torch.uint16, "I32": torch.int32, "U32": torch.uint32, "I64": torch.int64,
    "U64": torch.uint64, "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32,
    "F64": torch.float64, "C64": torch.complex64, "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2, "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
}  # fmt: skip

Tensors = dict[str, torch.Tensor]


def tensors_in(content: memoryview, name: str) -> Tensors:
    """The tensors of one file; they share its memory.

    Args:
        content: The whole file.
        name: Names it in errors.

    Raises:
        TrustError: It breaks a rule of the format.
    """
    header, start = _header(content, name)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or any(type(v) is not str for v in metadata.values()):
        raise TrustError(f"{name}: its __metadata__ maps to something other than text")
    found: Tensors = {}
    spans = []
    for key, entry in header.items():
        kind, shape, begin, end = _entry(key, entry, name)
        spans.append((begin, end))
        if end <= len(content) - start:
            found[key] = _tensor(content, kind, shape, start + begin, start + end)
    last = 0
    for begin, end in sorted(spans):
        if begin != last:
            raise TrustError(f"{name}: its tensors overlap or leave bytes between them")
        last = end
    if start + last != len(content):
        raise TrustError(f"{name}: its tensors need {start + last:,} of {len(content):,} bytes")
    return found


def _header(content: memoryview, name: str) -> tuple[dict[str, Any], int]:
    if len(content) < 8:
        raise TrustError(f"{name} is no safetensors file: it ends within its first 8 bytes")
    (length,) = struct.unpack("<Q", content[:8])
    if length > min(_MAX_HEADER, len(content) - 8):
        raise TrustError(f"{name} is no safetensors file: it claims a header of {length:,} bytes")
    return parse_json(bytes(content[8 : 8 + length]), f"the header of {name}"), 8 + length


def _entry(key: str, entry: Any, name: str) -> tuple[torch.dtype, list[int], int, int]:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise TrustError(f"{name}: {key!r} is no tensor")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    kind = _KINDS.get(dtype) if isinstance(dtype, str) else None
    if kind is None:
        raise TrustError(f"{name}: {key!r} has the type {dtype!r}, which is not loaded")
    if not _whole(shape) or not _whole(offsets) or len(offsets) != 2:
        raise TrustError(f"{name}: {key!r} has no proper shape or offsets")
    size = kind.itemsize
    for length in shape:
        size *= length
    if offsets[1] - offsets[0] != size:
        raise TrustError(f"{name}: {key!r} takes other bytes than its shape and type need")
    return kind, shape, offsets[0], offsets[1]


def _whole(found: object) -> bool:
    return isinstance(found, list) and all(type(n) is int and 0 <= n < 1 << 48 for n in found)


def _tensor(
    content: memoryview, kind: torch.dtype, shape: list[int], begin: int, end: int
) -> torch.Tensor:
    if begin == end:
        return torch.empty(shape, dtype=kind)
    if begin % kind.itemsize:  # legal, but neither fast nor safe to compute with in place
        return torch.frombuffer(bytearray(content[begin:end]), dtype=kind).reshape(shape)
    return torch.frombuffer(content[begin:end], dtype=kind).reshape(shape)


def state_dict_in(opened: Opened) -> Tensors:
    """All weights of verified files: one file, or shards as their index lists them.

    Raises:
        TrustError: None, several without an index, or an index that does not fit its shards.
    """
    there = sorted(n for n in opened.contents if n.endswith(".safetensors"))
    if WEIGHTS in there:
        return tensors_in(opened.contents[WEIGHTS], WEIGHTS)  # preferred to an index
    if INDEX in opened.contents:
        return _sharded(opened)
    if len(there) == 1:
        return tensors_in(opened.contents[there[0]], there[0])
    what = "several safetensors files without an index" if there else "no safetensors file"
    raise TrustError(
        f"{opened.path} holds {what}; only {WEIGHTS}, its shards, or a single safetensors file are "
        "loaded, never a format that can run code"
    )


def _sharded(opened: Opened) -> Tensors:
    listed = opened.json(INDEX).get("weight_map")
    if not isinstance(listed, dict) or not all(isinstance(f, str) for f in listed.values()):
        raise TrustError(f"{INDEX} does not map weights to files")
    found: Tensors = {}
    for name in sorted(set(listed.values())):
        if name not in opened.contents or not name.endswith(".safetensors"):
            raise TrustError(f"{INDEX} names {name!r}, which is no signed safetensors file")
        part = tensors_in(opened.contents[name], name)
        if set(part) != {key for key, place in listed.items() if place == name}:
            raise TrustError(f"{name} holds other weights than {INDEX} says")
        found.update(part)
    return found
