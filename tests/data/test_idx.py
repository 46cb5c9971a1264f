import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from gifthorse.core.errors import DataError
from gifthorse.data.idx import read_idx
from gifthorse.data.sources import load


def _idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + (
        array.astype(np.uint8).tobytes()
    )  # fmt: skip


def _write(folder: Path, prefix: str, images: np.ndarray, labels: np.ndarray) -> None:
    (folder / f"{prefix}-images-idx{images.ndim}-ubyte").write_bytes(_idx(images))
    (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(_idx(labels)))


def _images(count: int, *shape: int) -> np.ndarray:
    rng = np.random.default_rng(count)
    return rng.integers(0, 256, size=(count, *shape), dtype=np.uint8)


def test_both_splits_plain_and_gzipped(tmp_path: Path) -> None:
    train, test = _images(5, 4, 3), _images(2, 4, 3)
    _write(tmp_path, "train", train, np.array([0, 1, 2, 3, 1]))
    _write(tmp_path, "t10k", test, np.array([0, 1]))
    data = load(f"idx:{tmp_path}")
    assert data.image_shape == (1, 4, 3)
    assert data.labels.tolist() == [0, 1, 2, 3, 1]
    np.testing.assert_array_equal(data.batch(np.arange(5))[:, 0], train / np.float32(255))
    held_out = load(f"idx:{tmp_path}", split="test")
    np.testing.assert_array_equal(held_out.batch(np.arange(2))[:, 0], test / np.float32(255))
    # The test labels alone would make it two classes.
    assert held_out.class_names == data.class_names == ("0", "1", "2", "3")


def test_colour_in_either_order(tmp_path: Path) -> None:
    last = _images(2, 5, 4, 3)
    _write(tmp_path, "train", last, np.array([0, 1]))
    values = load(f"idx:{tmp_path}").batch(np.arange(2))
    np.testing.assert_array_equal(values, last.transpose(0, 3, 1, 2) / np.float32(255))


def test_a_lone_pair_serves_for_either_split(tmp_path: Path) -> None:
    _write(tmp_path, "mine", _images(2, 4, 4), np.array([0, 1]))
    assert len(load(str(tmp_path), split="test")) == len(load(str(tmp_path))) == 2


def test_size_is_applied(tmp_path: Path) -> None:
    _write(tmp_path, "train", np.full((2, 4, 4), 100), np.array([0, 1]))
    data = load(f"idx:{tmp_path}", size=(6, 8))
    assert data.image_shape == (1, 6, 8)
    np.testing.assert_allclose(data.batch(np.arange(2)), 100 / 255, atol=1e-6)


def _refused(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_idx(path, (3,))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"empty file.*expected 00 00 08 03"),
        (b"\x00\x00\x0d\x03" + bytes(12), "00 00 0d 03, expected 00 00 08 03"),
        (b"\x00\x00\x08\x01" + bytes(4), "00 00 08 01, expected 00 00 08 03"),
        (b"\x89PNG\r\n", "89 50 4e 47"),
        (b"\x00\x00\x08\x03" + bytes(5), "ends within its header"),
        (_idx(np.zeros((2, 3, 3)))[:-1], "claims 18 bytes of data, got 17"),
        (_idx(np.zeros((2, 3, 3))) + b"x", "claims 18 bytes of data, got more"),
        (b"\x00\x00\x08\x03" + b"\xff" * 12, "header claims .* at most .* damaged or hostile"),
        # Four gigabytes claimed, none there: nothing of that size may be allocated.
        (b"\x00\x00\x08\x03" + struct.pack(">3I", 4, 1 << 15, 1 << 15), "got 0"),
    ],
)
def test_broken_files(tmp_path: Path, content: bytes, message: str) -> None:
    _refused(tmp_path / "plain", content, message)
    _refused(tmp_path / "zipped", gzip.compress(content), message)


def test_truncated_and_damaged_gzip(tmp_path: Path) -> None:
    whole = gzip.compress(_idx(_images(20, 9, 9)))
    _refused(tmp_path / "short", whole[: len(whole) // 2], "gzip file is truncated or broken")
    damaged = bytearray(whole)
    damaged[-6] ^= 0xFF
    _refused(tmp_path / "damaged", bytes(damaged), "gzip file is truncated or broken")
    _refused(tmp_path / "stub", whole[:4], "gzip file is truncated or broken")


def test_counts_that_differ(tmp_path: Path) -> None:
    _write(tmp_path, "train", _images(3, 4, 4), np.array([0, 1]))
    with pytest.raises(DataError, match=r"has 3 images but .* has 2 labels"):
        load(f"idx:{tmp_path}")


def test_no_images_at_all(tmp_path: Path) -> None:
    _write(tmp_path, "train", np.zeros((0, 4, 4)), np.zeros(0))
    with pytest.raises(DataError, match="got 0 images"):
        load(f"idx:{tmp_path}")


def test_channels_that_are_none(tmp_path: Path) -> None:
    _write(tmp_path, "train", _images(2, 4, 5, 6), np.array([0, 1]))
    with pytest.raises(DataError, match="expected 1 or 3 channels"):
        load(f"idx:{tmp_path}")


def test_missing_folder_files_and_splits(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        load(f"idx:{tmp_path / 'nowhere'}")
    with pytest.raises(DataError, match="found no such pair"):
        load(f"idx:{tmp_path}")
    for prefix in ("train", "extra"):
        _write(tmp_path, prefix, _images(2, 4, 4), np.array([0, 1]))
    with pytest.raises(DataError, match="is the test split"):
        load(f"idx:{tmp_path}", split="test")
