"""The state of a server survives, whole or not at all."""

from pathlib import Path

import numpy as np
import pytest

from gifthorse.core.errors import RecordError
from gifthorse.federated.checkpoint import Checkpoint, read_checkpoint, write_checkpoint

STATE = Checkpoint(
    round=7,
    arrays={"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array(3, np.int64)},
    memory={"caught/file": np.ones(1), "steps": np.zeros((2, 5))},
    seen=frozenset({"a" * 64, "b" * 64}),
)


def test_it_comes_back_as_it_was(tmp_path: Path) -> None:
    place = tmp_path / "state.npz"
    write_checkpoint(place, STATE)
    found = read_checkpoint(place)
    assert (found.round, found.seen) == (7, STATE.seen)
    for one, other in ((found.arrays, STATE.arrays), (found.memory, STATE.memory)):
        assert list(one) == list(other)
        for name, value in one.items():
            assert value.dtype == other[name].dtype
            np.testing.assert_array_equal(value, other[name])
    assert [path.name for path in tmp_path.iterdir()] == ["state.npz"]


def test_an_empty_memory_is_fine(tmp_path: Path) -> None:
    place = tmp_path / "state.npz"
    write_checkpoint(place, Checkpoint(round=1, arrays={}, memory={}, seen=frozenset()))
    assert read_checkpoint(place).seen == frozenset()


@pytest.mark.parametrize("cut", [0, 1, 60, 400])
def test_a_broken_file_is_refused(tmp_path: Path, cut: int) -> None:
    place = tmp_path / "state.npz"
    write_checkpoint(place, STATE)
    place.write_bytes(place.read_bytes()[:cut])
    with pytest.raises(RecordError, match="checkpoint"):
        read_checkpoint(place)


def test_a_missing_file_or_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="cannot read"):
        read_checkpoint(tmp_path / "none.npz")
    with pytest.raises(RecordError, match="cannot write"):
        write_checkpoint(tmp_path / "no" / "state.npz", STATE)
