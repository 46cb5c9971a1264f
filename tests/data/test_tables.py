import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gifthorse.core.errors import DataError
from gifthorse.core.types import ImageData
from gifthorse.data.hub import HubImages
from gifthorse.data.images import digest, to_arrays
from gifthorse.data.sources import load


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


def _picture(level: int = 0, size: tuple[int, int] = (5, 4), mode: str = "RGB") -> Image.Image:
    """Width before height in ``size``, as in pillow."""
    colour: Any = level if mode in ("L", "I;16") else (level,) * len(mode)
    return Image.new(mode, size, colour)


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def _save(folder: Path, name: str, picture: Image.Image) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    picture.save(folder / name)


def _dataset(cells: list[Any], labels: list[Any], **names: str) -> Any:
    return datasets.Dataset.from_dict(
        {names.get("image", "image"): cells, names.get("label", "label"): labels}
    ).cast_column(names.get("image", "image"), datasets.Image())


# --- folders


def test_folder_of_classes(tmp_path: Path) -> None:
    _save(tmp_path / "dog", "1.png", _picture(200))
    _save(tmp_path / "cat", "1.png", _picture(100))
    _save(tmp_path / "cat" / "deeper", "2.PNG", _picture(50))
    (tmp_path / "cat" / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden").mkdir()
    data = load(str(tmp_path))
    assert isinstance(data, ImageData)
    assert data.class_names == ("cat", "dog")
    assert data.labels.tolist() == [0, 0, 1]
    assert data.image_shape == (3, 4, 5)
    levels = data.batch(np.arange(3))[:, 0, 0, 0] * 255
    assert sorted(levels[:2].round().tolist()) == [50, 100]
    assert levels[2].round() == 200
    assert digest(data) == digest(to_arrays(data))


def test_folder_with_splits_shares_classes(tmp_path: Path) -> None:
    for label in ("a", "b", "c"):
        _save(tmp_path / "train" / label, "1.png", _picture())
    _save(tmp_path / "test" / "b", "1.png", _picture())
    assert load(f"folder:{tmp_path}").labels.tolist() == [0, 1, 2]
    test = load(f"folder:{tmp_path}", split="test")
    assert test.labels.tolist() == [1]
    assert test.class_names == ("a", "b", "c")


def test_validation_stands_in_for_test(tmp_path: Path) -> None:
    _save(tmp_path / "train" / "a", "1.png", _picture())
    with pytest.raises(DataError, match="none of test, validation, valid, val/ for the test split"):
        load(f"folder:{tmp_path}", split="test")
    _save(tmp_path / "val" / "a", "1.png", _picture())
    assert len(load(f"folder:{tmp_path}", split="test")) == 1


def test_train_may_be_a_vehicle(tmp_path: Path) -> None:
    for label in ("bus", "train"):
        _save(tmp_path / label, "1.png", _picture())
    assert load(f"folder:{tmp_path}").class_names == ("bus", "train")


def test_flat_folders_have_no_classes(tmp_path: Path) -> None:
    _save(tmp_path / "flat", "1.png", _picture())
    with pytest.raises(DataError, match=r"found 1 pictures directly in it; .*classes are unknown"):
        load(f"folder:{tmp_path / 'flat'}")
    for part in ("train", "test"):
        _save(tmp_path / "parts" / part, "1.png", _picture())
    with pytest.raises(DataError, match="classes are unknown"):
        load(f"folder:{tmp_path / 'parts'}")
    with pytest.raises(DataError, match="no such folder"):
        load(f"folder:{tmp_path / 'nowhere'}")


def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _save(tmp_path / "data" / "a", "1.png", _picture(9))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    assert len(load("folder:../data").batch(np.array([0]))) == 1


# --- sizes, colours and broken pictures


def test_pictures_get_the_size_of_the_first_or_the_one_asked_for(tmp_path: Path) -> None:
    _save(tmp_path / "a", "1.png", _picture(10, (5, 4)))
    _save(tmp_path / "a", "2.png", _picture(90, (50, 70)))
    data = load(f"folder:{tmp_path}")
    assert data.image_shape == (3, 4, 5)
    np.testing.assert_allclose(data.batch(np.array([1])), 90 / 255, atol=1e-6)
    other = load(f"folder:{tmp_path}", size=(7, 9))
    assert other.image_shape == (3, 7, 9)
    assert other.batch(np.arange(2)).shape == (2, 3, 7, 9)


def test_modes_become_grey_or_rgb() -> None:
    palette = _picture(80).quantize(4)
    pictures = [_picture(80, mode="L"), _picture(80), palette, _picture(80, mode="RGBA")]
    deep = Image.fromarray(np.full((4, 5), 80 * 256, dtype=np.uint16))
    cells = [{"bytes": _png(picture), "path": None} for picture in (*pictures, deep)]
    grey = HubImages.wrap(_dataset(cells, [0] * 5), name="x")
    assert grey.image_shape == (1, 4, 5)
    np.testing.assert_allclose(grey.batch(np.arange(5)), 80 / 255, atol=1e-6)
    colour = HubImages.wrap(_dataset(cells[1:], [0] * 4), name="x")
    assert colour.image_shape == (3, 4, 5)
    np.testing.assert_allclose(colour.batch(np.arange(4)), 80 / 255, atol=1e-6)


def test_broken_pictures_name_their_row() -> None:
    noise = np.random.default_rng(0).integers(0, 256, size=(40, 40, 3), dtype=np.uint8)
    whole = _png(Image.fromarray(noise))
    cells = [
        {"bytes": content, "path": None}
        for content in (_png(_picture()), whole[: len(whole) // 2], b"", b"GIF, or not", whole)
    ]
    data = HubImages.wrap(_dataset(cells, [0] * 5), name="x")
    for row in (1, 2, 3):
        with pytest.raises(DataError, match=f"x, row {row}: (the picture file is broken|not a)"):
            data.batch(np.array([0, row]))
    assert data.batch(np.array([0, 4])).shape == (2, 3, 4, 5)
    assert data.batch(np.array([], dtype=np.int64)).shape == (0, 3, 4, 5)


def test_decompression_bombs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [{"bytes": _png(_picture(size=(60, 60))), "path": None}]
    monkeypatch.setattr("gifthorse.data.decoding.MAX_PIXELS", 3599)
    with pytest.raises(DataError, match="row 0: 60 × 60 pixels are more than"):
        HubImages.wrap(_dataset(cells, [0]), name="x")
    for limit in (3000, 100):  # where pillow warns, and where it refuses
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(DataError, match="row 0: refused as a decompression bomb"):
            HubImages.wrap(_dataset(cells, [0]), name="x")


def test_formats_that_start_programs_are_not_opened() -> None:
    cells = [{"bytes": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "path": None}]
    with pytest.raises(DataError, match="not a picture in one of PNG"):
        HubImages.wrap(_dataset(cells, [0]), name="x")


# --- Parquet


def _parquet(path: Path, labels: list[Any], **names: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [{"bytes": _png(_picture(20 * row)), "path": None} for row in range(len(labels))]
    _dataset(cells, labels, **names).to_parquet(str(path))


def test_parquet_as_datasets_writes_it(tmp_path: Path) -> None:
    _parquet(tmp_path / "a.parquet", ["dog", "cat", "dog"], image="img", label="fine_label")
    data = load(str(tmp_path / "a.parquet"))
    assert data.class_names == ("cat", "dog")
    assert data.labels.tolist() == [1, 0, 1]
    np.testing.assert_allclose(data.batch(np.array([2])), 40 / 255, atol=1e-6)


def test_plain_parquet_with_bytes(tmp_path: Path) -> None:
    content = [_png(_picture(30)), _png(_picture(60))]
    structs = [{"bytes": cell, "path": "p.png"} for cell in content]
    for place, column in enumerate((content, structs)):
        path = tmp_path / f"{place}.parquet"
        pq.write_table(pa.table({"image": column, "label": [1, 0]}), path)
        data = load(f"parquet:{path}")
        assert data.labels.tolist() == [1, 0]
        assert data.class_names == ("0", "1")
        np.testing.assert_allclose(data.batch(np.array([1])), 60 / 255, atol=1e-6)


def test_parquet_folders_and_patterns(tmp_path: Path) -> None:
    _parquet(tmp_path / "data" / "train-00000.parquet", [0, 1])
    _parquet(tmp_path / "data" / "train-00001.parquet", [1])
    _parquet(tmp_path / "data" / "test-00000.parquet", [0])
    assert load(str(tmp_path)).labels.tolist() == [0, 1, 1]
    assert load(f"parquet:{tmp_path}", split="test").labels.tolist() == [0]
    assert len(load(f"parquet:{tmp_path}/data/t*.parquet")) == 4
    (tmp_path / "data" / "test-00000.parquet").unlink()
    with pytest.raises(DataError, match="has files for train but none for the test split"):
        load(str(tmp_path), split="test")


def test_class_labels_keep_their_names() -> None:
    cells = [{"bytes": _png(_picture()), "path": None}] * 2
    dataset = _dataset(cells, [2, 0]).cast_column(
        "label", datasets.ClassLabel(names=["no", "maybe", "yes"])
    )
    data = HubImages.wrap(dataset, name="x")
    assert data.class_names == ("no", "maybe", "yes")
    assert data.labels.tolist() == [2, 0]


def test_files_named_by_data_are_not_opened(tmp_path: Path) -> None:
    """A Parquet file from a stranger must not make us read (or fetch) what it names."""
    _save(tmp_path, "secret.png", _picture())
    for named in (str(tmp_path / "secret.png"), "https://example.org/a.png"):
        path = tmp_path / "stranger.parquet"
        table = pa.table({"image": [{"bytes": None, "path": named}], "label": [0]})
        pq.write_table(table.cast(_stranger_schema()), path)
        with pytest.raises(DataError, match=r"row 0: names the file .* not opened"):
            load(f"parquet:{path}")


def _stranger_schema() -> pa.Schema:
    cell = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.schema([("image", cell), ("label", pa.int64())])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": [1], "label": [0]}, "no column holds pictures; got image, label"),
        ({"image": [_png(_picture())]}, "no column holds labels; got image"),
        ({"image": [_png(_picture())], "label": [None]}, "row 0 has the label None"),
        ({"image": [_png(_picture())], "label": [0.5]}, "row 0 has the label 0.5"),
        ({"image": [_png(_picture())], "label": [-1]}, "row 0 has the label -1.*without labels"),
        ({"image": [_png(_picture())], "label": [10**6]}, "largest label is 1000000"),
        ({"image": [None, _png(_picture())], "label": [0, 0]}, "row 0: there is no picture"),
        ({"image": pa.array([], pa.binary()), "label": pa.array([], pa.int64())}, "got 0 images"),
    ],
)
def test_parquet_content_that_does_not_fit(
    tmp_path: Path, columns: dict[str, Any], message: str
) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(DataError, match=message):
        load(f"parquet:{path}")


def test_files_that_are_no_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    for content in (b"", b"PAR1 no PAR1"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"cannot read .*a\.parquet"):
            load(f"parquet:{path}")
    with pytest.raises(DataError, match="no such file, folder or pattern"):
        load(f"parquet:{tmp_path / 'b.parquet'}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no \.parquet files"):
        load(f"parquet:{tmp_path / 'empty'}")


# --- hubs


def test_hub_data_sets_use_validation_where_there_is_no_test(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def fake(path: str, name: str | None, *, split: str) -> Any:
        asked.append((path, name, split))
        if split != "validation":
            raise ValueError(f"Unknown split {split!r}. Should be one of ['validation'].")
        return _dataset([{"bytes": _png(_picture(70)), "path": "x.png"}], [0])

    monkeypatch.setattr(datasets, "load_dataset", fake)
    data = load("hf:owner/name:plain", split="test")
    assert asked == [("owner/name", "plain", "test"), ("owner/name", "plain", "validation")]
    assert data.name == "hf:owner/name:plain"
    np.testing.assert_allclose(data.batch(np.array([0])), 70 / 255, atol=1e-6)
    with pytest.raises(DataError, match="Unknown split 'train'"):
        load("hf:owner/name")
