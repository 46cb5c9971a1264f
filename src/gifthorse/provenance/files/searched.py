"""Formats that are only searched for signs of code; the rest of them stays unknown."""

import re
from collections.abc import Iterator

from gifthorse.provenance.files.issues import Report, Standing, shown
from gifthorse.provenance.files.limits import Budget
from gifthorse.provenance.files.source import Source

_STEP = 4 << 20
_OVERLAP = 256

_CLASS = rb'"class_name"\s{0,99}:\s{0,99}"'
_KERAS = {
    _CLASS + rb'Lambda"': "a Keras Lambda layer, which is Python code",
    _CLASS + rb'[^"]{0,40}\\u00': "a Keras layer whose name is spelt so that it is not found",
    rb"TorchModuleWrapper": "a Keras layer that unpickles a torch module",
}
_TENSORFLOW = {
    rb"PyFunc": "an operator that calls Python",
    rb"ReadFile": "an operator that reads files",
    rb"WriteFile": "an operator that writes files",
    rb"MatchingFiles": "an operator that lists files",
    rb"LoadLibrary": "an operator that loads a library",
}
_ARROW = {rb"arrow\.py_extension_type": "a type of Arrow that is unpickled (CVE-2023-47248)"}


def _found(
    source: Source, signs: dict[bytes, str], budget: Budget
) -> Iterator[tuple[int, bytes, bytes]]:
    """Where each sign, a regular expression, first stands, and what stands there."""
    waiting, at = dict(signs), 0
    while waiting:
        budget.tick()
        block = source.read_at(at, _STEP + _OVERLAP)
        for sign in list(waiting):
            found = re.search(sign, block)
            if found:
                del waiting[sign]
                yield at + found.start(), sign, found[0]
        if len(block) < _STEP + _OVERLAP:
            return
        at += _STEP


def _search(source: Source, signs: dict[bytes, str], rule: str, report: Report, b: Budget) -> None:
    for place, sign, text in _found(source, signs, b):
        report.add(rule, Standing.DANGEROUS, f"holds {signs[sign]} ({shown(text)})", place)


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
