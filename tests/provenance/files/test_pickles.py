"""Pickles in every wrapper: the call within is seen, and data alone raises no alarm."""

import base64
import bz2
import collections
import lzma
import os
import pickle
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch

from gifthorse.core.types import Verdict
from gifthorse.provenance.files import second_opinion

from .made import (
    Calls,
    benign,
    gzipped,
    hostile,
    object_array,
    rules,
    scan_bytes,
    tarred,
    zipped,
)


def _legacy_torch(content: bytes) -> bytes:
    """The stacked pickles of a legacy ``.pt``: the fourth is the object."""
    magic, version, system = 0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}
    head = b"".join(pickle.dumps(part, protocol=2) for part in (magic, version, system))
    return head + content + pickle.dumps([], protocol=2)


WRAPPERS: dict[str, Callable[[bytes], bytes]] = {
    "raw": lambda content: content,
    "stacked": lambda content: benign() + content,
    "stacked after a broken one": lambda content: content + b"\x80\x04\xff",
    "torch zip": lambda content: zipped({"m/data.pkl": content, "m/version": b"3\n"}),
    "deflated zip": lambda content: zipped({"a.pkl": content}, zipfile.ZIP_DEFLATED),
    "legacy torch": _legacy_torch,
    "gzip": gzipped,
    "zlib": zlib.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda content: lzma.compress(content, format=lzma.FORMAT_ALONE),
    "tar": lambda content: tarred({"storages/a.pkl": content}),
    "tar.gz": lambda content: tarred({"m.pkl": content}, "w:gz"),
    "tar.xz": lambda content: tarred({"m.pkl": content}, "w:xz"),
    "zip in zip": lambda content: zipped({"inner.zip": zipped({"a.pkl": content})}),
    "zip in tar.gz in zip": lambda content: zipped(
        {"a.tar.gz": tarred({"b.zip": zipped({"c.pkl": content})}, "w:gz")}
    ),
    "zip behind a pickle": lambda content: benign() + zipped({"a.pkl": content}),
    "two gzip streams": lambda content: gzipped(benign()) + gzipped(content),
}
STRANGE = {"stacked after a broken one", "zip behind a pickle"}  # whatever is inside


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("protocol", range(6))
def test_a_call_is_seen_in_every_wrapper(wrapper: str, protocol: int, tmp_path: Path) -> None:
    found = scan_bytes(WRAPPERS[wrapper](hostile(protocol)), tmp_path)
    assert found.verdict is Verdict.FLAGGED
    assert "pickle-dangerous" in rules(found)
    assert any(name.endswith(".getcwd") for name in found.imports)


@pytest.mark.parametrize("wrapper", [w for w in WRAPPERS if w not in STRANGE])
@pytest.mark.parametrize("protocol", range(6))
def test_data_alone_is_clear_in_every_wrapper(wrapper: str, protocol: int, tmp_path: Path) -> None:
    found = scan_bytes(WRAPPERS[wrapper](benign(protocol)), tmp_path)
    assert found.verdict is Verdict.CLEAR, found.issues


def test_our_own_walk_needs_no_second_opinion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gifthorse.provenance.files.pickles.ask_picklescan", lambda *_: None)
    found = scan_bytes(hostile(), tmp_path)
    assert rules(found, Verdict.FLAGGED) == {"pickle-dangerous"}


def test_the_second_opinion_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gifthorse.provenance.files.pickles._report_imports", lambda *_: None)
    found = scan_bytes(hostile(), tmp_path)
    assert rules(found, Verdict.FLAGGED) == {"second-opinion"}


def test_a_second_opinion_that_fails_is_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr("picklescan.scanner.scan_pickle_bytes", fails)
    assert scan_bytes(hostile(), tmp_path).verdict is Verdict.FLAGGED
    assert rules(scan_bytes(benign(), tmp_path)) == {"second-opinion"}
    assert second_opinion.__doc__


def test_nothing_is_executed(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    found = scan_bytes(pickle.dumps(Calls(Path.touch, marker)), tmp_path)
    assert found.verdict is Verdict.FLAGGED
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        # Opcodes by hand: what no honest pickler writes.
        (b"\x80\x04\x8c\x02os\x94\x8c\x06getcwd\x94\x930h\x00h\x01\x93)R.", "pickle-dangerous"),
        (b"cos\ngetcwd\n(tR.", "pickle-dangerous"),
        (b"(ios\ngetcwd\n.", "pickle-dangerous"),
        (b"(cos\ngetcwd\no.", "pickle-dangerous"),
        (b"c__builtin__\nprint\n(tR.", "pickle-dangerous"),
        (b"cos\ngetcwd\n(tR", "pickle-dangerous"),
        (b"cos\ngetcwd\n(tR\xff\xff", "pickle-dangerous"),
        (b"ccollections\nOrderedDict\n(tR\x8c\x06getcwd\x93.", "pickle-computed-import"),
        (b"ctorch\nTensor\n}\x8c\x01ax1\n.", "pickle-broken"),
        (b"ccollections\nOrderedDict\n}\x8c\x01aK\x01sb.", "pickle-changes-import"),
        (b"\x80\x02\x82\x01)R.", "pickle-extension"),
        (b"csome.package\nThing\n(tR.", "pickle-unknown"),
        (b"cnumpy\nsave\n(tR.", "pickle-dangerous"),
        (b"cnumpy\nos.getcwd\n(tR.", "pickle-dangerous"),
        (b"csklearn.linear_model\nRidge\n(K\x01tR.", "pickle-unknown"),
        ("cтест\nимя\n(tR.".encode(), "pickle-unknown"),
        (b"cnumpy\nndarray\r\n.", "pickle-unknown"),
    ],
)
def test_hand_made_pickles(content: bytes, rule: str, tmp_path: Path) -> None:
    found = scan_bytes(content, tmp_path, "m.pkl")
    assert rule in rules(found), found.issues
    assert found.verdict is not Verdict.CLEAR


def test_unknown_is_never_clean(tmp_path: Path) -> None:
    found = scan_bytes(pickle.dumps(partial(int, "3")), tmp_path)
    assert found.verdict is not Verdict.CLEAR
    found = scan_bytes(b"csome.package\nThing\n.", tmp_path)
    assert found.verdict is Verdict.INCONCLUSIVE


def test_truncated_pickles_are_not_clear(tmp_path: Path) -> None:
    whole = benign()
    for length in range(2, len(whole)):
        found = scan_bytes(whole[:length], tmp_path, "m.pkl")
        assert found.verdict is not Verdict.CLEAR, length


def test_objects_within_a_numpy_file(tmp_path: Path) -> None:
    assert scan_bytes(object_array(Calls(os.getcwd)), tmp_path, "a.npy").verdict is Verdict.FLAGGED
    assert scan_bytes(object_array({"a": 1}), tmp_path, "a.npy").verdict is Verdict.CLEAR
    both = zipped({"a.npy": object_array(Calls(os.getcwd)), "b.npy": object_array(1)})
    assert scan_bytes(both, tmp_path, "a.npz").verdict is Verdict.FLAGGED


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3), ("bz2", 3), ("lzma", 3), ("xz", 3)])
def test_joblib(compress: int | tuple[str, int], tmp_path: Path) -> None:
    weights = np.arange(2000.0).reshape(40, 50)
    for payload, verdict in ((None, Verdict.CLEAR), (Calls(os.getcwd), Verdict.FLAGGED)):
        path = tmp_path / "model.joblib"
        # What follows the arrays must be reached: they lie between the operations.
        objects = np.array(["a", payload], dtype=object)
        joblib.dump({"w": weights, "o": objects, "f": weights.T, "p": payload}, path, compress)
        found = scan_bytes(path.read_bytes(), tmp_path, "copy.joblib")
        assert found.verdict is verdict, found.issues


def test_benign_checkpoints_raise_no_alarm(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Flatten())
    optimiser = torch.optim.AdamW(net.parameters())
    net(torch.randn(2, 1, 4, 4)).sum().backward()
    optimiser.step()
    kinds = [torch.zeros(3, dtype=t) for t in (torch.bool, torch.int8, torch.bfloat16)]
    for content in (
        net.state_dict(),
        {"model": net.state_dict(), "optimiser": optimiser.state_dict(), "epoch": 3},
        {"rng": torch.get_rng_state(), "numpy": np.random.RandomState(0).get_state()},
        [*kinds, torch.nn.Parameter(torch.ones(2)), collections.OrderedDict(a=1)],
    ):
        for modern in (True, False):
            path = tmp_path / "checkpoint.pt"
            torch.save(content, path, _use_new_zipfile_serialization=modern)
            found = scan_bytes(path.read_bytes(), tmp_path, "copy.pt")
            assert found.verdict is Verdict.CLEAR, found.issues


def test_a_legacy_checkpoint_with_more_bytes_than_tensors(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"a": torch.ones(3)}, path, _use_new_zipfile_serialization=False)
    found = scan_bytes(path.read_bytes() + b"x", tmp_path, "copy.pt")
    assert rules(found) == {"torch-legacy-size"}
    assert found.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("protocol", range(6))
def test_numpy_values_in_a_pickle(protocol: int, tmp_path: Path) -> None:
    content = {
        "array": np.arange(6.0).reshape(2, 3), "scalar": np.float32(1), "bytes": b"\xff",
        "complex": 2j, "big": 10**40, "set": {1}, "generator": np.random.default_rng(0),
    }  # fmt: skip
    found = scan_bytes(pickle.dumps(content, protocol=protocol), tmp_path)
    assert found.verdict is Verdict.CLEAR, found.issues


def test_pickles_kept_as_data(tmp_path: Path) -> None:
    for made, verdict in ((hostile(4), Verdict.INCONCLUSIVE), (benign(4), Verdict.CLEAR)):
        for value in (made, base64.b64encode(made).decode(), made.hex()):
            found = scan_bytes(pickle.dumps({"data": value}), tmp_path)
            assert found.verdict is verdict, value
            assert found.imports == ()
