"""Pictures and plots that go with evidence: plain data, so that any report can draw them."""

import base64
import io
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Picture(_Frozen):
    """One small picture with its caption; ``png`` is base64."""

    label: str
    png: str
    width: int
    height: int


class PicturesExhibit(_Frozen):
    """A row of pictures, for example a recovered trigger beside stamped samples."""

    kind: Literal["pictures"] = "pictures"
    title: str
    caption: str
    pictures: tuple[Picture, ...]


class BarsExhibit(_Frozen):
    """One bar a unit (usually a class), optionally with a threshold line.

    ``highlight`` holds the indices of bars that the method points to. ``judged`` marks the plot of
    the statistic that the threshold judges; the audit draws the threshold into it.
    """

    kind: Literal["bars"] = "bars"
    title: str
    caption: str
    labels: tuple[str, ...]
    values: tuple[float, ...]
    value_name: str
    threshold: float | None = None
    judged: bool = False
    highlight: tuple[int, ...] = ()


class ScatterExhibit(_Frozen):
    """A cloud of points in two groups (0 = ordinary, 1 = pointed to), for cluster plots."""

    kind: Literal["scatter"] = "scatter"
    title: str
    caption: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    group: tuple[int, ...]
    group_names: tuple[str, str] = ("ordinary", "suspect")


class HistogramExhibit(_Frozen):
    """One or more distributions over the same bins, optionally with a threshold line.

    ``edges`` has one entry more than every series in ``counts``.
    """

    kind: Literal["histogram"] = "histogram"
    title: str
    caption: str
    value_name: str
    edges: tuple[float, ...]
    counts: dict[str, tuple[int, ...]]
    threshold: float | None = None
    judged: bool = False


class Passage(_Frozen):
    """A text with its caption; ``marks`` are (start, end) positions of suspicious spans in it."""

    label: str
    text: str
    marks: tuple[tuple[int, int], ...] = ()


class TextsExhibit(_Frozen):
    """Texts to be read by a person: recovered phrases, answers, flagged samples."""

    kind: Literal["texts"] = "texts"
    title: str
    caption: str
    passages: tuple[Passage, ...]


Exhibit = Annotated[
    PicturesExhibit | BarsExhibit | ScatterExhibit | HistogramExhibit | TextsExhibit,
    Field(discriminator="kind"),
]


def picture(pixels: NDArray[np.float32], label: str) -> Picture:
    """Encode one picture as PNG.

    Args:
        pixels: Shape (c, h, w) with c = 1 or 3, values in [0, 1]; values outside are clipped.
        label: Caption.

    Raises:
        ValueError: Another shape.
    """
    if pixels.ndim != 3 or pixels.shape[0] not in (1, 3):
        raise ValueError(f"a picture has shape (1 or 3, h, w), got {pixels.shape}")
    levels = np.rint(np.nan_to_num(pixels).clip(0, 1) * 255).astype(np.uint8)
    image = Image.fromarray(levels[0] if len(levels) == 1 else levels.transpose(1, 2, 0))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return Picture(
        label=label,
        png=base64.b64encode(buffer.getvalue()).decode("ascii"),
        width=image.width,
        height=image.height,
    )
