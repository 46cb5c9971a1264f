"""Hostile bytes: no crash, no hang, bounded memory, and never fewer imports than really happen.

Each reader is called without the net that ``scan_files`` spreads below it. The slow tests run for
``GIFTHORSE_FUZZ_SECONDS`` (default 5) a reader; ten minutes each were run for docs/results.md.
"""

import contextlib
import io
import os
import pickle
import random
import resource
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.provenance.fuzzing import MOST_MEMORY_MIB, SECONDS, SLOWEST, mutated

from gifthorse.provenance.files import pickles
from gifthorse.provenance.files.examine import examine
from gifthorse.provenance.files.issues import Report
from gifthorse.provenance.files.limits import Budget, Limits
from gifthorse.provenance.files.source import BytesSource

from .made import (
    Calls,
    benign,
    gzipped,
    hostile,
    object_array,
    safetensors,
    tarred,
    zipped,
)

LIMITS = Limits(seconds=5, unpacked_bytes=64 << 20, header_bytes=1 << 20)


def _examined(content: bytes, name: str) -> Report:
    report = Report()
    start = time.monotonic()
    examine(BytesSource(content), name, report, Budget(LIMITS))
    assert time.monotonic() - start < SLOWEST
    return report


class _Inert:
    """Stands for whatever a pickle imports: can be called and changed, and does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None: ...
    def __call__(self, *_: Any, **__: Any) -> "_Inert":
        return self

    def __setstate__(self, state: Any) -> None: ...
    def __setitem__(self, key: Any, value: Any) -> None: ...
    def append(self, value: Any) -> None: ...
    def extend(self, values: Any) -> None: ...


class _Recorder(pickle._Unpickler):
    """Python's own unpickler, which here imports nothing and remembers what it was asked for."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content))
        self.asked: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        self.asked.add(f"{module}.{name}")
        return _Inert

    def persistent_load(self, _: Any) -> Any:
        return _Inert()


def _really_imported(content: bytes) -> set[str]:
    recorder = _Recorder(content)
    # A mutated pickle fails in any way there is; what it asked for until then is what counts.
    with contextlib.suppress(Exception):
        recorder.load()
    return recorder.asked


def _seen_by_us(content: bytes) -> set[str]:
    walked = pickles.walk(BytesSource(content), Budget(LIMITS))
    first = walked.pickles[0] if walked.pickles else None
    found = {str(f) for f in first.imports} if first is not None else set()
    assert first is None or not first.limited
    return found


def _check_imports(content: bytes) -> None:
    if b"\x96" in content:  # would make the real one allocate what the length says
        return
    missing = _really_imported(content) - _seen_by_us(content)
    assert not missing, (missing, content)


_WORDS = st.sampled_from(["os", "getcwd", "a", "b.c", "é", ""])


def _operation(draw: st.DrawFn) -> bytes:
    plain = b"(.0123NQRabde]}lostu)\x85\x86\x87\x88\x89\x81\x92\x8f\x90\x91\x93\x94"
    kind = draw(st.integers(0, 9))
    word = draw(_WORDS).encode()
    if kind < 5:
        return bytes([draw(st.sampled_from(plain))])
    if kind == 5:
        return b"\x8c" + bytes([len(word)]) + word
    if kind == 6:
        return b"c" + word + b"\n" + draw(_WORDS).encode() + b"\n"
    if kind == 7:
        return draw(st.sampled_from([b"h", b"q"])) + bytes([draw(st.integers(0, 4))])
    if kind == 8:
        return draw(st.sampled_from([b"K\x01", b"I01\n", b"L3L\n", b"F1\n", b"S'os'\n", b"Vos\n"]))
    return draw(st.sampled_from([b"p0\n", b"g0\n", b"i" + word + b"\nx\n", b"\x80\x04", b"Pid\n"]))


@st.composite
def _programs(draw: st.DrawFn) -> bytes:
    return b"".join(_operation(draw) for _ in range(draw(st.integers(1, 25)))) + b"."


@settings(max_examples=500, deadline=None)
@given(_programs())
def test_the_walk_never_sees_fewer_imports_than_happen(content: bytes) -> None:
    _check_imports(content)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=300), st.sampled_from(["a.bin", "a.pkl", "a.safetensors", "a.onnx"]))
def test_any_bytes(content: bytes, name: str) -> None:
    _examined(content, name)


def _seeds() -> dict[str, tuple[str, list[bytes]]]:
    header = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"__metadata__":{"b":"c"}}'
    key = struct.pack("<Q", 3) + b"a.b"
    text = struct.pack("<IQ", 8, 4) + b"{{x}"
    many = struct.pack("<IIQ", 9, 8, 1) + struct.pack("<Q", 2) + b"hi"
    tensor = key + struct.pack("<IQIQ", 1, 4, 0, 0)
    gguf = b"GGUF" + struct.pack("<IQQ", 3, 1, 2) + key + text + key + many + tensor
    values = {"a": np.arange(9.0), "b": {1, 2}, "c": b"x" * 300, "d": 10**30}
    pickled = [hostile(p) for p in range(6)] + [pickle.dumps(values, p) for p in range(6)]
    node = b"\x0a\x0c\x22\x04Gemm\x3a\x04ai.x"
    onnx = b"\x08\x08\x3a" + bytes([len(node) + 4]) + node + b"\x12\x02ab"
    inner = {"m/data.pkl": hostile(), "m/data/0": bytes(40), "m/version": b"3\n"}
    return {
        "pickle": ("a.pkl", pickled),
        "safetensors": ("a.safetensors", [safetensors(header, bytes(8)), safetensors(b"{}")]),
        "gguf": ("a.gguf", [gguf + bytes(60)]),
        "zip": ("a.pt", [zipped(inner), zipped(inner, zipfile.ZIP_DEFLATED)]),
        "tar": ("a.tar", [tarred(inner), tarred(inner, "w:gz")]),
        "onnx": ("a.onnx", [onnx]),
        "numpy": ("a.npy", [object_array(Calls(os.getcwd)), object_array([1])]),
        "other": ("a.json", [b'{"a":[{"auto_map":{"b":"c"}}]}', gzipped(benign()), benign()]),
    }


def _fuzz(kind: str, seed: int, go_on: Callable[[int], bool]) -> int:
    name, seeds = _seeds()[kind]
    rng, done = random.Random(seed), 0  # noqa: S311 - not for secrets
    while go_on(done):
        content = mutated(rng.choice(seeds), rng)
        try:
            _examined(content, name)
            if kind == "pickle":
                _check_imports(content)
        except BaseException:
            print(f"{kind}, case {done}: {content!r}")  # noqa: T201 - shown if the test fails
            raise
        done += 1
    return done


@pytest.mark.parametrize("kind", _seeds())
def test_mutated_files(kind: str) -> None:
    assert _fuzz(kind, 0, lambda done: done < 400) == 400


@pytest.mark.slow
@pytest.mark.parametrize("kind", _seeds())
def test_mutated_files_for_long(kind: str, tmp_path: Path) -> None:
    end = time.monotonic() + SECONDS
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    done = _fuzz(kind, random.randrange(1 << 30), lambda _: time.monotonic() < end)  # noqa: S311
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    print(f"{kind}: {done} files in {SECONDS:g} s, memory grew by {grown:.0f} MiB")  # noqa: T201
    assert done > 10 * SECONDS
    assert grown < MOST_MEMORY_MIB
