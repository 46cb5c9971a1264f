"""Examines one file by what it is, and everything inside it."""

import re
from collections.abc import Callable, Iterator

from gifthorse.provenance.files import (
    arrays_file,
    compressed,
    gguf_file,
    kinds,
    pickles,
    protobuf,
    safetensors_file,
    searched,
    tars,
    texts,
    zips,
)
from gifthorse.provenance.files.issues import Report, Standing
from gifthorse.provenance.files.limits import Budget, LimitReachedError
from gifthorse.provenance.files.source import (
    BrokenError,
    PartSource,
    Source,
    TruncatedError,
    UnpackedSource,
)

_Examiner = Callable[[Source, Report, Budget], None]
_Members = Callable[[Source, Report, Budget], Iterator[tuple[str, Source]]]

_INERT = frozenset({"picture", "sound", "empty"})
_UNREAD = {
    "7z": "7z archives are not unpacked",
    "rar": "rar archives are not unpacked",
    "zstandard": "zstandard streams are not unpacked",
    "engine": "compiled engines run code of their own and are not examined",
    "bytecode": "compiled Python is not examined",
    "tflite": "TensorFlow Lite models are not examined",
    "notebook": "notebooks hold code and are not examined",
    "msgpack": "msgpack is not examined",
    "pdf": "PDF is not examined",
    "riff": "this media file is not examined",
}
_COMPRESSED = frozenset({"gzip", "zlib", "bzip2", "xz", "lzma", "lz4", "joblib zlib"})
_ENDS_IN_PAYLOAD = frozenset({"gzip", "xz", "bzip2", "lzma"})
_DISGUISES = kinds.RUNS_CODE | {"zip", "tar", "gzip", "bzip2", "xz", "lzma", "zlib", "7z", "rar"}


def examine(source: Source, name: str, report: Report, budget: Budget, depth: int = 0) -> None:
    """Report everything about one file; what cannot be examined is reported as such."""
    kind = "unknown"
    try:
        kind = _kind(source, name, budget)
        report.formats.append(kind)
        _check_name(kind, name, report)
        _dispatch(source, kind, name, report, budget, depth)
    except LimitReachedError as error:
        rule, standing = "limit", Standing.UNKNOWN
        if error.bomb:
            rule, standing = "archive-bomb", Standing.DANGEROUS
        report.add(rule, standing, f"not examined to the end: {error}")
    except (BrokenError, TruncatedError) as error:
        report.add("broken", Standing.UNKNOWN, f"not examined to the end: {error}")


def _kind(source: Source, name: str, budget: Budget) -> str:
    found = kinds.by_content(source, name)
    if found is not None:
        return found
    promised, text = kinds.by_name(name), kinds.is_text(source)
    wordy = promised is not None or kinds.suffix(name) in (".txt", ".md", ".csv")
    if pickles.plausible(source, budget, text=text and wordy):
        return "pickle"
    return promised or ("text" if text else "unknown")


def _check_name(kind: str, name: str, report: Report) -> None:
    """A name that promises a format without code, and another content."""
    ending = kinds.suffix(name)
    promised = kinds.HARMLESS_NAMES.get(ending)
    if promised is None or kind in promised or kind == "empty":
        return
    if kind in _DISGUISES:
        text = f"called {ending}, a format without code, but its content is: {kind}"
        report.add("disguised", Standing.DANGEROUS, text)
    else:
        report.add("misnamed", Standing.NOTE, f"called {ending}, but its content is: {kind}")


def _dispatch(
    source: Source, kind: str, name: str, report: Report, budget: Budget, depth: int
) -> None:
    examiner = _EXAMINERS.get(kind)
    if examiner is not None:
        examiner(source, report, budget)
    elif kind in _ARCHIVES:
        _members(_ARCHIVES[kind], source, report, budget, depth)
    elif kind in _COMPRESSED:
        _compressed(source, kind, name, report, budget, depth)
    elif kind == "executable":
        text = "machine code: an executable or a library that runs when it is loaded"
        report.add("executable", Standing.DANGEROUS, text)
    elif kind == "text":
        _text(source, name, report)
    elif kind == "script":
        report.add("script", Standing.UNKNOWN, "a script; it was not examined")
    elif kind not in _INERT:
        text = _UNREAD.get(kind, "a format that is not examined")
        report.add("not-examined", Standing.UNKNOWN, text)
    if kind not in _ARCHIVES and not isinstance(source, PartSource | UnpackedSource):
        _appended(source, kind, report, budget, depth)


def _compressed(
    source: Source, kind: str, name: str, report: Report, budget: Budget, depth: int
) -> None:
    if kind == "joblib zlib":
        # Files of joblib before 0.10: a sign, the length in 19 or 20 digits, zlib.
        start = 22 if source.read_at(21, 1) == b" " else 21
        source, kind = PartSource(source, start, max(0, source.size - start)), "zlib"
    if compressed.can_unpack(kind):
        inner = compressed.unpacked(source, kind, budget)
        _member(inner, _stripped(name), report, budget, depth)
    else:
        text = f"{kind} streams are not unpacked without the package {kind}"
        report.add("not-examined", Standing.UNKNOWN, text)


def _appended(source: Source, kind: str, report: Report, budget: Budget, depth: int) -> None:
    """A zip is found from its end, so it can hide behind any other file."""
    if kind in _ENDS_IN_PAYLOAD or zips.find_end(source) is None:
        return
    try:
        entries, _ = zips.directory(source, budget)
    except BrokenError:
        return
    if entries:
        text = f"a zip with {len(entries)} members is hidden behind the {kind}"
        report.add("polyglot", Standing.DANGEROUS, text)
        _members(zips.members, source, report, budget, depth)


def _members(members: _Members, source: Source, report: Report, budget: Budget, depth: int) -> None:
    for member, content in members(source, report, budget):
        _member(content, member, report.inside(member), budget, depth)


def _member(content: Source, name: str, report: Report, budget: Budget, depth: int) -> None:
    if depth >= budget.limits.depth:
        text = f"archives within archives, more than {budget.limits.depth} deep"
        report.add("archive-bomb", Standing.DANGEROUS, text)
        return
    examine(content, name, report, budget, depth + 1)


def _stripped(name: str) -> str:
    """The name of what is inside a compressed file: ``a.pkl.gz`` holds ``a.pkl``."""
    ending = kinds.suffix(name)
    return name[: -len(ending)] if ending in (".gz", ".bz2", ".xz", ".lzma", ".z") else name


def _pickle(source: Source, report: Report, budget: Budget) -> None:
    pickles.examine(source, report, budget)


def _text(source: Source, name: str, report: Report) -> None:
    """Plain text runs nothing, except in the one place where Python looks for it."""
    begins = source.read_at(0, 1 << 20)
    if kinds.suffix(name) == ".pth" and re.search(rb"(?m)^\s*import[ \t]", begins):
        text = "text that Python runs at its start if it lies among the installed packages"
        report.add("python-path-file", Standing.DANGEROUS, text)


_EXAMINERS: dict[str, _Examiner] = {
    "npy": arrays_file.examine,
    "safetensors": safetensors_file.examine,
    "arrow": searched.examine_arrow,
    "parquet": searched.examine_arrow,
    "hdf5": searched.examine_hdf5,
    "tensorflow": searched.examine_tensorflow,
    "gguf": gguf_file.examine,
    "onnx": protobuf.examine_onnx,
    "sentencepiece": protobuf.examine_plain,
    "yaml": texts.examine_yaml,
    "template": texts.examine_template_file,
    "json": texts.examine_json,
    "pickle": _pickle,
    "python": texts.examine_python,
}
_ARCHIVES: dict[str, _Members] = {"zip": zips.members, "tar": tars.members}
