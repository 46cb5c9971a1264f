"""What a file is, judged by its content first and by its name second."""

import struct
import zlib
from pathlib import PurePosixPath

from gifthorse.provenance.files.source import Source

_HDF = b"\x89HDF\r\n\x1a\n"
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"PK\x07\x08PK\x03\x04", "zip"),
    (b"\x1f\x8b", "gzip"),
    (b"ZF0x", "joblib zlib"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x5d\x00\x00", "lzma"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x28\xb5\x2f\xfd", "zstandard"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "rar"),
    (b"\x93NUMPY", "npy"),
    (_HDF, "hdf5"),
    (b"GGUF", "gguf"),
    (b"FUGG", "gguf"),
    (b"\x7fELF", "executable"),
    (b"\xfe\xed\xfa\xce", "executable"),
    (b"\xfe\xed\xfa\xcf", "executable"),
    (b"\xce\xfa\xed\xfe", "executable"),
    (b"\xcf\xfa\xed\xfe", "executable"),
    (b"\xca\xfe\xba\xbe", "executable"),
    (b"\x00asm", "executable"),
    (b"!<arch>\n", "executable"),
    (b"#!", "script"),
    (b"\x89PNG\r\n\x1a\n", "picture"),
    (b"\xff\xd8\xff", "picture"),
    (b"GIF8", "picture"),
    (b"PAR1", "parquet"),
    (b"ARROW1", "arrow"),
    (b"%PDF-", "pdf"),
    (b"RIFF", "riff"),
    (b"ID3", "sound"),
    (b"OggS", "sound"),
    (b"fLaC", "sound"),
)

_BY_NAME = {
    ".onnx": "onnx",
    ".pb": "tensorflow",
    ".py": "python",
    ".pyw": "python",
    ".ipynb": "notebook",
    ".json": "json",
    ".jsonl": "text",
    ".sh": "script",
    ".bat": "script",
    ".ps1": "script",
    ".pyc": "bytecode",
    ".engine": "engine",
    ".plan": "engine",
    ".tflite": "tflite",
    ".jinja": "template",
    ".jinja2": "template",
    ".j2": "template",
    ".template": "template",
    ".tmpl": "template",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".msgpack": "msgpack",
    ".model": "sentencepiece",
    ".spm": "sentencepiece",
}

PICKLE_NAMES = frozenset(
    {".pkl", ".pickle", ".p", ".pk", ".joblib", ".pt", ".pth", ".ckpt", ".bin", ".dat", ".data",
     ".th", ".t7", ".dill", ".npy", ".npz", ".sav", ".mar", ".model", ".pt2", ".ptl"}
)  # fmt: skip

HARMLESS_NAMES = {
    ".safetensors": frozenset({"safetensors"}),
    ".gguf": frozenset({"gguf"}),
    ".onnx": frozenset({"onnx"}),
    ".json": frozenset({"json", "text"}),
    ".jsonl": frozenset({"json", "text"}),
    ".txt": frozenset({"text", "json"}),
    ".md": frozenset({"text"}),
    ".csv": frozenset({"text"}),
    ".yaml": frozenset({"text", "yaml", "json"}),
    ".yml": frozenset({"text", "yaml", "json"}),
    ".png": frozenset({"picture"}),
    ".jpg": frozenset({"picture"}),
    ".jpeg": frozenset({"picture"}),
    ".gif": frozenset({"picture"}),
    ".bmp": frozenset({"picture"}),
    ".parquet": frozenset({"parquet"}),
    ".arrow": frozenset({"arrow"}),
    ".npy": frozenset({"npy"}),
    ".npz": frozenset({"zip"}),
    ".h5": frozenset({"hdf5"}),
    ".hdf5": frozenset({"hdf5"}),
    ".keras": frozenset({"zip", "hdf5"}),
    ".tflite": frozenset({"tflite"}),
}
"""Names that people trust not to run code when opened, and what must be inside."""

RUNS_CODE = frozenset({"pickle", "executable", "script", "python", "bytecode"})
"""Kinds that can run code when opened as what they are."""


def suffix(name: str) -> str:
    """The last suffix of a name, in small letters; ``model.PKL `` ends in ``.pkl``."""
    return PurePosixPath(name.strip().lower()).suffix


def by_content(source: Source, name: str) -> str | None:
    """The kind of a file that its first bytes tell, or None."""
    head = source.read_at(0, 1024)
    if not head:
        return "empty"
    ending = suffix(name)
    found = _by_magic(source, head, name)
    if found is not None:
        return found
    if _is_safetensors(head) or (ending == ".safetensors" and not _is_text(head)):
        return "safetensors"
    if any(source.read_at(at, 8) == _HDF for at in (512, 1024, 2048, 4096)):
        return "hdf5"
    return "pickle" if ending in (".pkl", ".pickle", ".joblib", ".dill") else None


def by_name(name: str) -> str | None:
    """The kind of a file that its name promises, for kinds whose content has no sign of its own."""
    return _BY_NAME.get(suffix(name))


def _by_magic(source: Source, head: bytes, name: str) -> str | None:
    if head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return "pickle"
    if is_tar(head):
        return "tar"
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return _BY_NAME.get(suffix(name), kind) if kind == "script" else kind
    if head[:2] == b"BM" and head[6:10] == bytes(4):
        return "picture"
    if head[:2] == b"MZ" and _is_portable_executable(source, head):
        return "executable"
    if head[4:8] == b"TFL3":
        return "tflite"
    return "zlib" if _is_zlib(head) else None


def is_tar(head: bytes) -> bool:
    """Whether a block is a header of tar: its checksum is right."""
    if len(head) < 512 or not head[0]:
        return False
    try:
        stated = int(head[148:156].rstrip(b"\0 ").strip() or b"-1", 8)
    except ValueError:
        return False
    return stated == 256 + sum(head[:148]) + sum(head[156:512])


def _is_zlib(head: bytes) -> bool:
    if len(head) < 2 or head[0] & 0x0F != 8 or head[0] >> 4 > 7 or (head[0] * 256 + head[1]) % 31:
        return False
    try:
        return bool(zlib.decompressobj().decompress(head, 16))
    except zlib.error:
        return False


def _is_portable_executable(source: Source, head: bytes) -> bool:
    if len(head) < 64:
        return False
    (place,) = struct.unpack("<I", head[60:64])
    return source.read_at(place, 4) == b"PE\0\0" or b"DOS mode" in head


def _is_safetensors(head: bytes) -> bool:
    if len(head) < 10:
        return False
    (length,) = struct.unpack("<Q", head[:8])
    return 2 <= length < 1 << 40 and head[8:9] == b"{" and head[9:10] in b'"}\n '


def _is_text(head: bytes) -> bool:
    if b"\0" in head:
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > len(head) - 4
    return True


def is_text(source: Source) -> bool:
    """Whether a file begins and ends as text in UTF-8."""
    head, tail = source.read_at(0, 1 << 16), source.read_at(max(0, source.size - 4096), 4096)
    return _is_text(head) and b"\0" not in tail
