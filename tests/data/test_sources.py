import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from gifthorse.core.errors import DataError
from gifthorse.core.types import ImageData
from gifthorse.data.images import digest
from gifthorse.data.signs import signs
from gifthorse.data.sources import FASHION_CLASSES, load


def test_signs_by_name_with_count_seed_and_split() -> None:
    data = load("signs:20", split="test", seed=4)
    assert isinstance(data, ImageData)
    assert digest(data) == digest(signs("test", 20, seed=4))


def test_signs_in_another_size() -> None:
    assert load("signs:3", size=(16, 24)).image_shape == (3, 16, 24)


def _fashion(root: Path) -> None:
    folder = root / "fashion-mnist"
    folder.mkdir(parents=True)
    labels = bytes([0, 0, 8, 1]) + struct.pack(">I", 2) + bytes([9, 2])
    images = bytes([0, 0, 8, 3]) + struct.pack(">3I", 2, 2, 2) + bytes(range(8))
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))


@pytest.mark.parametrize(
    ("variable", "below"),
    [("GIFTHORSE_DATA", ""), ("XDG_DATA_HOME", "datasets"), ("XDG_DATA_DIRS", "datasets")],
)
def test_fashion_mnist_is_found_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, below: str
) -> None:
    for other in ("GIFTHORSE_DATA", "XDG_DATA_HOME", "XDG_DATA_DIRS"):
        monkeypatch.setenv(other, str(tmp_path / "empty"))
    monkeypatch.setenv(variable, str(tmp_path))
    _fashion(tmp_path / below)
    data = load("fashion-mnist")
    assert [data.class_names[label] for label in data.labels] == ["Ankle boot", "Pullover"]
    assert data.name == "fashion-mnist"


def test_fashion_mnist_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gifthorse.data.sources._fashion_places", lambda: [tmp_path / "none"])
    with pytest.raises(DataError, match=r"make data.*apt-get install.*idx:DIR.*hf:"):
        load("fashion-mnist")


def test_fashion_mnist_as_installed() -> None:
    try:
        data = load("fashion-mnist", split="test")
    except DataError as error:
        pytest.skip(str(error))
    assert data.image_shape == (1, 28, 28)
    assert len(data) == 10_000
    assert data.class_names == FASHION_CLASSES
    assert np.bincount(data.labels).tolist() == [1000] * 10


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("fashon-mnist", "did you mean 'fashion-mnist'"),
        ("sign", "did you mean 'signs'"),
        ("flder:x", "did you mean 'folder:DIR'"),
        ("npz", "did you mean 'npz:FILE'"),
        (
            "no/such/path",
            "expected one of signs, signs:COUNT, fashion-mnist, digits, cifar10, hf:NAME",
        ),
        ("", "expected one of"),
        (" ", "expected one of"),
        ("\0", "expected one of|cannot look"),
        ("x" * 5000, "expected one of|cannot look"),
        ("idx:", "something behind the colon, as in idx:DIR"),
        ("hf:", "as in hf:NAME"),
        ("signs:many", "as in signs:500, got 'many'"),
        ("signs:", "as in signs:500"),
        ("signs:0", "as in signs:500"),
        ("signs:-5", "as in signs:500"),
        ("signs:99999999999", "as in signs:500"),
    ],
)
def test_unknown_sources(source: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(source)


def test_other_bad_arguments() -> None:
    with pytest.raises(DataError, match="no split is called 'dev'"):
        load("signs", split="dev")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="0 × 5 pixels"):
        load("signs", size=(0, 5))


def test_paths_that_are_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the folder is empty"):
        load(str(tmp_path))
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match="a file of an unknown kind"):
        load(str(tmp_path / "notes.txt"))
    with pytest.raises(DataError, match="expected one subfolder of pictures a class"):
        load(str(tmp_path))


def test_hub_data_without_a_network_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(path: str, name: str | None, *, split: str) -> None:
        raise ConnectionError(f"cannot reach {path}, {name}, {split}\nwith a second line")

    monkeypatch.setattr("datasets.load_dataset", unreachable)
    with pytest.raises(DataError, match=r"cannot load 'a/b' .ConnectionError.*needs the network"):
        load("hf:a/b:c")
    with pytest.raises(DataError, match="cifar10: cannot load 'uoft-cs/cifar10'"):
        load("cifar10")
