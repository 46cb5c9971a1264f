"""Exhibits of model detectors: the recovered trigger beside stamped pictures, and class scores."""

from collections.abc import Sequence

import numpy as np
import torch

from gifthorse.core.exhibits import BarsExhibit, Picture, PicturesExhibit, picture
from gifthorse.core.types import FloatArray, RecoveredTrigger, ScoreArray
from gifthorse.detectors.models.trusted import Probe
from gifthorse.models.decoupling import Painter

_STAMPED = 4


def trigger_pictures(
    probe: Probe, trigger: RecoveredTrigger, names: tuple[str, ...], method: str
) -> PicturesExhibit:
    """Mask, pattern, and some trusted pictures before and after they are stamped."""
    target = names[trigger.target]
    pictures: list[Picture]
    if trigger.flow is not None:
        chart = _chart(trigger.pattern.shape)
        pictures = [
            picture(chart, "test chart"),
            picture(trigger.stamp(chart[None])[0], "test chart, stamped"),
        ]
    elif trigger.offset is None:
        pictures = [
            picture(trigger.mask[None], "mask"),
            picture(trigger.pattern * trigger.mask, "trigger (pattern × mask)"),
        ]
    else:
        most = float(np.abs(trigger.offset).max()) or 1.0
        pictures = [picture(0.5 + trigger.offset / (2 * most), f"added, × {1 / most:.1f}")]
    labels = probe.y.cpu().numpy()
    rows = _different_classes(labels, trigger.target)
    clean = probe.x.cpu().numpy()[rows]
    stamped = trigger.stamp(clean)
    for row, before in zip(rows, clean, strict=True):
        pictures.append(picture(before, f"{names[int(labels[row])]}"))
    pictures += [picture(after, f"stamped → {target}") for after in stamped]
    return PicturesExhibit(
        title=f"Recovered trigger for {target!r}",
        caption=(
            f"{method} searched for the smallest change that sends trusted pictures to {target!r}. "
            "If it looks like a sticker or a watermark rather than a ghost of the class, that is "
            "the backdoor's trigger or something close to it."
        ),
        pictures=tuple(pictures),
    )


def painted_pictures(probe: Probe, painter: Painter, name: str) -> PicturesExhibit:
    """Some trusted pictures before and after a generator changed them."""
    x = probe.x[:_STAMPED]
    with torch.inference_mode():
        after = painter(x).cpu().numpy()
    pictures = [picture(one, "trusted") for one in x.cpu().numpy()]
    pictures += [picture(one, "painted") for one in after]
    return PicturesExhibit(
        title=f"What leads to {name!r} past the features of the class",
        caption="A generator changed trusted pictures so that the model takes them for that class.",
        pictures=tuple(pictures),
    )


def class_bars(
    names: Sequence[str], values: ScoreArray, worst: int, value_name: str, *, judged: bool = True
) -> BarsExhibit:
    """One bar a class; ``judged`` marks the statistic that the threshold applies to."""
    return BarsExhibit(
        title=value_name[0].upper() + value_name[1:],
        caption="One bar a class; the class that the method points to is marked.",
        labels=tuple(names),
        values=tuple(float(f"{v:.5g}") for v in values),
        value_name=value_name,
        highlight=(worst,),
        judged=judged,
    )


def _chart(shape: tuple[int, ...]) -> FloatArray:
    """Stripes across and down in all shades, shape (c, h, w): what warps show on."""
    rows, columns = np.meshgrid(np.arange(shape[1]), np.arange(shape[2]), indexing="ij")
    lines = ((rows % 4 == 0) | (columns % 4 == 0)).astype(np.float32)
    shades = np.linspace(0.2, 0.8, shape[2], dtype=np.float32)
    return np.repeat((0.5 * lines + 0.5 * shades)[None], shape[0], axis=0)


def _different_classes(
    labels: np.ndarray[tuple[int], np.dtype[np.int64]], target: int
) -> list[int]:
    """The first pictures of up to four classes other than the target."""
    rows, seen = [], {target}
    for row, label in enumerate(labels.tolist()):
        if label not in seen:
            seen.add(label)
            rows.append(row)
        if len(rows) == _STAMPED:
            break
    return rows
