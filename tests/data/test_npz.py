import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gifthorse.core.errors import DataError
from gifthorse.data.images import ArrayImages, digest, subset
from gifthorse.data.npz import save_npz
from gifthorse.data.sources import load


def _levels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size=shape, dtype=np.uint8)


def _data() -> ArrayImages:
    return ArrayImages(
        name="d",
        pixels=_levels(4, 3, 6, 5),
        labels=np.array([0, 1, 1, 0]),
        class_names=("stop", "Straße"),
    )


def _saved(tmp_path: Path, **arrays: Any) -> str:
    path = tmp_path / "some.npz"
    np.savez(path, **arrays)
    return f"npz:{path}"


def test_round_trip(tmp_path: Path) -> None:
    data, path = _data(), tmp_path / "saved.npz"
    save_npz(data, path)
    again = load(f"npz:{path}")
    assert digest(again) == digest(data)
    assert again.class_names == ("stop", "Straße")
    assert [file.name for file in tmp_path.iterdir()] == ["saved.npz"]


def test_saving_a_view_and_saving_twice(tmp_path: Path) -> None:
    view = subset(_data(), np.array([3, 1]))
    for name in ("a.npz", "b.npz"):
        save_npz(view, tmp_path / name)
    assert digest(load(str(tmp_path / "a.npz"))) == digest(view)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_saving_replaces_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "saved.npz"
    path.write_bytes(b"old")
    save_npz(_data(), path)
    assert len(load(f"npz:{path}")) == 4


def test_saving_where_nothing_can_be_saved(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot write"):
        save_npz(_data(), tmp_path / "no" / "such.npz")


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((4, 6, 5), None), ((4, 6, 5, 3), (0, 3, 1, 2)), ((4, 6, 5, 1), (0, 3, 1, 2)),
     ((4, 3, 6, 5), (0, 1, 2, 3)), ((4, 1, 6, 5), (0, 1, 2, 3))],
)  # fmt: skip
def test_layouts(tmp_path: Path, shape: tuple[int, ...], axes: tuple[int, ...] | None) -> None:
    images = _levels(*shape)
    expected = images[:, None] if axes is None else images.transpose(axes)
    data = load(_saved(tmp_path, x=images, y=np.array([0, 1, 2, 0])))
    np.testing.assert_array_equal(data.batch(np.arange(4)), expected / np.float32(255))
    assert data.class_names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("shape", "message"),
    [((4, 3, 9, 3), "can be read as"), ((4, 9, 9, 4), "no axis of 1 or 3"), ((4, 81), "expected"),
     ((4, 1, 3, 9, 9), "expected")],
)  # fmt: skip
def test_layouts_that_cannot_be_known(tmp_path: Path, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(_saved(tmp_path, images=_levels(*shape), labels=np.zeros(4, np.int64)))


def test_splits_share_their_classes(tmp_path: Path) -> None:
    source = _saved(
        tmp_path,
        x_train=_levels(3, 4, 5),
        y_train=np.array([[0], [1], [2]]),
        x_test=_levels(2, 4, 5),
        y_test=np.array([[1], [0]]),
    )
    assert load(source).labels.tolist() == [0, 1, 2]
    test = load(source, split="test")
    assert test.labels.tolist() == [1, 0]
    assert test.class_names == ("0", "1", "2")


def test_floats_and_string_labels(tmp_path: Path) -> None:
    images = _levels(2, 4, 4) / 255
    data = load(_saved(tmp_path, images=images, labels=np.array(["dog", "cat"])))
    assert data.class_names == ("cat", "dog")
    assert data.labels.tolist() == [1, 0]
    np.testing.assert_allclose(data.batch(np.arange(2))[:, 0], images, atol=1e-6)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.full((1, 4, 4), np.nan), "labels": [0]}, "16 of 16 .* NaN"),
        ({"images": np.full((1, 4, 4), 255.0), "labels": [0]}, "divide by 255"),
        ({"images": np.zeros((1, 4, 4), np.int32), "labels": [0]}, "type int32, expected uint8"),
        ({"images": _levels(2, 4, 4), "labels": [0]}, "got 2 images but labels"),
        ({"images": _levels(2, 4, 4), "labels": [0.5, 1]}, "whole numbers or strings"),
        ({"images": _levels(2, 4, 4), "labels": [0, -1]}, "label -1"),
        ({"images": _levels(2, 4, 4), "labels": [0, 10**9]}, "largest label"),
        ({"images": _levels(2, 4, 4), "labels": np.zeros((2, 2), int)}, "expected .n,."),
        ({"images": _levels(2, 4, 4)}, "got the arrays images, expected one of labels"),
        ({"stuff": _levels(2, 4, 4)}, "got the arrays stuff"),
        ({"images": np.zeros((0, 4, 4), np.uint8), "labels": np.zeros(0, int)}, "0 labels"),
        (
            {"images": _levels(2, 4, 4), "labels": [0, 1], "class_names": np.array([1, 2])},
            "expected strings",
        ),
        (
            {"images": _levels(2, 4, 4), "labels": [0, 1], "class_names": np.array(["a"])},
            "image 1 has label 1",
        ),
    ],
)
def test_bad_content(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(_saved(tmp_path, **arrays))


class _Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, ("raise SystemExit('a pickle was opened')",)


@pytest.mark.parametrize("place", ["images", "labels", "class_names"])
def test_pickles_are_never_opened(tmp_path: Path, place: str) -> None:
    arrays: dict[str, Any] = {
        "images": _levels(1, 4, 4),
        "labels": np.array([0]),
        "class_names": np.array(["a"]),
    }
    arrays[place] = np.array([_Bomb()], dtype=object)
    with pytest.raises(DataError, match="pickled Python objects, which are never opened"):
        load(_saved(tmp_path, **arrays))


def _npy(shape: tuple[int, ...], content: bytes) -> bytes:
    buffer = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue() + content


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (_npy((10**6, 32, 32), b"\0" * 64), "claims 1,024,000,000 bytes of data, got 64"),
        (_npy((10**9, 32, 32), b""), "at most"),
        (_npy((1, 4, 4), b"\0" * 20), "claims 16 bytes of data, got 20"),
        (b"no array", "not an array"),
    ],
)
def test_headers_are_not_believed(tmp_path: Path, member: bytes, message: str) -> None:
    path = tmp_path / "forged.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", member)
        archive.writestr("labels.npy", _npy((1,), b"\0"))
    with pytest.raises(DataError, match=message):
        load(f"npz:{path}")


def test_files_that_are_no_archives(tmp_path: Path) -> None:
    path = tmp_path / "broken.npz"
    path.write_bytes(b"PK nothing")
    with pytest.raises(DataError, match="not a NumPy archive"):
        load(f"npz:{path}")
    with pytest.raises(DataError, match="cannot read"):
        load(f"npz:{tmp_path / 'missing.npz'}")


def test_damaged_archive(tmp_path: Path) -> None:
    path = tmp_path / "saved.npz"
    save_npz(_data(), path)
    content = bytearray(path.read_bytes())
    content[400] ^= 0xFF  # within the pixels: the checksum of the archive notices
    path.write_bytes(content)
    with pytest.raises(DataError, match="broken one"):
        load(f"npz:{path}")
    path.write_bytes(content[:300])
    with pytest.raises(DataError, match="broken one"):
        load(f"npz:{path}")
