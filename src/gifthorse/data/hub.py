"""Pictures from a ``datasets.Dataset``, decoded when they are asked for."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gifthorse.core.errors import DataError
from gifthorse.core.types import FloatArray, IntArray
from gifthorse.data.decoding import open_picture, picture_levels
from gifthorse.data.images import checked_labels
from gifthorse.data.labelling import numbered

IMAGE_COLUMNS = ("image", "img", "images", "picture", "pixel_values")
LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "target", "y")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HubImages:
    """Labelled pictures in a ``datasets.Dataset``; ``batch`` decodes only what it returns.

    Build one with ``HubImages.wrap``. Nothing is kept decoded: for many passes over a small data
    set, ``to_arrays`` is faster.

    Attributes:
        name: How the user named the data set.
        dataset: Rows with one column, the undecoded pictures.
        column: The name of that column.
        labels: Class of every picture, shape (n,).
        class_names: A name for every class.
        image_shape: (channels, height, width) that every picture is converted and resized to.
        roots: Folders below which rows may name picture files instead of holding their bytes.
    """

    name: str
    dataset: Any
    column: str
    labels: IntArray
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    roots: tuple[Path, ...] = ()

    @classmethod
    def wrap(
        cls,
        dataset: Any,
        *,
        name: str,
        size: tuple[int, int] | None = None,
        roots: tuple[Path, ...] = (),
    ) -> "HubImages":
        """Find the picture and label columns of a ``datasets.Dataset`` and check them.

        Pictures are grey if the first one is, and RGB otherwise. They are resized bilinearly,
        without keeping the aspect ratio, to ``size`` or else to the size of the first one.

        Args:
            dataset: A ``datasets.Dataset`` with a column of pictures and one of labels: class
                labels, whole numbers from 0, or strings.
            name: How the user named the data set.
            size: (height, width) in pixels.
            roots: Rows may name files below these folders instead of holding bytes.

        Raises:
            DataError: No rows, no such columns, labels without a class, or a broken first picture.
        """
        if len(dataset) == 0:
            raise DataError(f"{name}: got 0 images; a data set needs at least one")
        column = _image_column(dataset, name)
        labels, class_names = _labels(dataset, name)
        pictures = _undecoded(dataset.select_columns([column]), column)
        first = open_picture(
            _source(pictures[0][column], roots, f"{name}, row 0"), f"{name}, row 0"
        )
        height, width = size or (first.height, first.width)
        return cls(
            name=name,
            dataset=pictures,
            column=column,
            labels=checked_labels(name, labels, len(dataset), len(class_names)),
            class_names=class_names,
            image_shape=(1 if first.mode == "L" else 3, height, width),
            roots=roots,
        )

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: IntArray) -> FloatArray:
        """The pictures at ``indices``: a new array (len(indices), c, h, w), values in [0, 1].

        Raises:
            DataError: A picture file is broken, missing or too large; the text names its row.
        """
        rows = np.asarray(indices, dtype=np.int64)
        channels, height, width = self.image_shape
        values = np.empty((len(rows), channels, height, width), dtype=np.float32)
        if len(rows) == 0:
            return values
        cells = self.dataset[rows.tolist()][self.column]
        for place, (row, cell) in enumerate(zip(rows.tolist(), cells, strict=True)):
            where = f"{self.name}, row {row}"
            picture = open_picture(_source(cell, self.roots, where), where)
            values[place] = picture_levels(picture, channels, (height, width))
        values /= np.float32(255)
        return values


def _source(cell: Any, roots: tuple[Path, ...], where: str) -> bytes | Path:
    """What to decode. A path counts only below ``roots``: data must not choose files to read."""
    if isinstance(cell, bytes):
        return cell
    if isinstance(cell, dict):
        content, path = cell.get("bytes"), cell.get("path")
        if isinstance(content, bytes):
            return content
        if isinstance(path, str):
            # Links are followed (data did not make them); "..", which data can write, is not.
            file = Path(os.path.abspath(path))  # noqa: PTH100
            if any(file.is_relative_to(os.path.abspath(root)) for root in roots):  # noqa: PTH100
                return file
            raise DataError(
                f"{where}: names the file {path!r} instead of holding the picture; such files are "
                "not opened; embed the pictures, or load their folder as folder:DIR"
            )
    raise DataError(f"{where}: there is no picture, got {type(cell).__name__}")


def _undecoded(dataset: Any, column: str) -> Any:
    """The same rows with pictures as bytes; decoding here is what lets an error name its row."""
    import datasets

    if isinstance(dataset.features[column], datasets.Image):
        return dataset.cast_column(column, datasets.Image(decode=False))
    return dataset


def _image_column(dataset: Any, name: str) -> str:
    import datasets

    features = dataset.features
    typed = [column for column, kind in features.items() if isinstance(kind, datasets.Image)]
    if typed:
        return next((column for column in IMAGE_COLUMNS if column in typed), typed[0])
    for column in IMAGE_COLUMNS:
        kind = features.get(column)
        # Parquet without the metadata of `datasets` holds plain bytes, or {bytes, path}.
        if isinstance(kind, dict) and "bytes" in kind:
            return column
        if isinstance(kind, datasets.Value) and kind.dtype in ("binary", "large_binary"):
            return column
    raise DataError(
        f"{name}: no column holds pictures; got {', '.join(features)}, expected one of "
        f"{', '.join(IMAGE_COLUMNS)} with encoded picture files"
    )


def _labels(dataset: Any, name: str) -> tuple[IntArray, tuple[str, ...]]:
    """The label column as numbers, and the names of the classes."""
    import datasets

    features = dataset.features
    typed = [column for column, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    column = next((column for column in LABEL_COLUMNS if column in features), None)
    if column is None and len(typed) == 1:
        column = typed[0]
    if column is None:
        raise DataError(
            f"{name}: no column holds labels; got {', '.join(features)}, expected one of "
            f"{', '.join(LABEL_COLUMNS)}"
        )
    values = list(dataset.select_columns([column]).with_format(None)[:][column])
    names = tuple(map(str, features[column].names)) if column in typed else ()
    return numbered(values, names, f"{name}, column {column!r}")
