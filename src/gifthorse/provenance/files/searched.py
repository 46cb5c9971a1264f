"""Formats that are only searched for signs of code; the rest of them stays unknown."""

from collections.abc import Iterator

from gifthorse.provenance.files.issues import Report, Standing, shown
from gifthorse.provenance.files.limits import Budget
from gifthorse.provenance.files.source import Source

_STEP = 4 << 20
_OVERLAP = 256

_KERAS = {
    b'"class_name": "Lambda"': "a Keras Lambda layer, which is Python code",
    b'"class_name":"Lambda"': "a Keras Lambda layer, which is Python code",
    b"TorchModuleWrapper": "a Keras layer that unpickles a torch module",
}
_TENSORFLOW = {
    b"PyFunc": "an operator that calls Python",
    b"ReadFile": "an operator that reads files",
    b"WriteFile": "an operator that writes files",
    b"MatchingFiles": "an operator that lists files",
    b"LoadLibrary": "an operator that loads a library",
}
_ARROW = {b"arrow.py_extension_type": "a type of Arrow that is unpickled (CVE-2023-47248)"}


def _found(source: Source, signs: dict[bytes, str], budget: Budget) -> Iterator[tuple[int, bytes]]:
    """Where each sign first stands."""
    waiting, at = dict(signs), 0
    while waiting:
        budget.tick()
        block = source.read_at(at, _STEP + _OVERLAP)
        for sign in list(waiting):
            place = block.find(sign)
            if place >= 0:
                del waiting[sign]
                yield at + place, sign
        if len(block) < _STEP + _OVERLAP:
            return
        at += _STEP


def _search(source: Source, signs: dict[bytes, str], rule: str, report: Report, b: Budget) -> None:
    for place, sign in _found(source, signs, b):
        report.add(rule, Standing.DANGEROUS, f"holds {signs[sign]} ({shown(sign)})", place)


def examine_hdf5(source: Source, report: Report, budget: Budget) -> None:
    """Keras models of version 2: their configuration is text within the file."""
    _search(source, _KERAS, "keras-code", report, budget)
    text = "HDF5 is only searched for Lambda layers; the rest of it was not examined"
    report.add("not-examined", Standing.UNKNOWN, text)


def examine_tensorflow(source: Source, report: Report, budget: Budget) -> None:
    """Graphs of TensorFlow."""
    _search(source, _TENSORFLOW, "tensorflow-operator", report, budget)
    text = "TensorFlow graphs are only searched for operators that reach out of the model"
    report.add("not-examined", Standing.UNKNOWN, text)


def examine_arrow(source: Source, report: Report, budget: Budget) -> None:
    """Tables of Arrow and Parquet: the schema stands at the start or the end."""
    _search(source, _ARROW, "arrow-pickle", report, budget)
