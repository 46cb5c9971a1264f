"""The pictures and plots that both feature-space scans show."""

import numpy as np

from gifthorse.core.exhibits import (
    BarsExhibit,
    Exhibit,
    HistogramExhibit,
    Picture,
    PicturesExhibit,
    ScatterExhibit,
    picture,
)
from gifthorse.core.texts import TextData
from gifthorse.core.types import (
    BoolArray,
    Evidence,
    ImageData,
    IntArray,
    LabelledData,
    ScoreArray,
)
from gifthorse.detectors.data.shared_words import texts_shown
from gifthorse.detectors.data.suspicion import Groups, Matrix
from gifthorse.metrics.outliers import StudentisedNull

_POINTS = 1500
_PICTURES = 8
_BINS = 40


def class_bars(
    groups: Groups,
    names: tuple[str, ...],
    residuals: ScoreArray,
    *,
    title: str,
    highlight: list[int],
) -> BarsExhibit:
    """How far each class stands out from the others, the judged statistic."""
    return BarsExhibit(
        title=title,
        caption="Each class is compared with the mean and the spread of all the others.",
        labels=tuple(names[group.label] for group in groups.classes),
        values=tuple(float(value) for value in residuals),
        value_name="studentised residual",
        judged=True,
        highlight=tuple(highlight),
    )


def null_of(evidence: Evidence) -> StudentisedNull:
    """The null of a statistic that is the tallest of its judged bars, one bar a class.

    Raises:
        ValueError: The evidence has no such plot, so it is from another method.
    """
    for exhibit in evidence.exhibits:
        if isinstance(exhibit, BarsExhibit) and exhibit.judged:
            return StudentisedNull(len(exhibit.values))
    raise ValueError("this evidence shows no classes, so it is not from a scan of features")


def class_scatter(
    name: str, x: Matrix, part: BoolArray, *, rng: np.random.Generator
) -> ScatterExhibit:
    """One class on its separating direction and the widest direction across it.

    Args:
        name: Of the class.
        x: Its centred features, shape (n, d).
        part: The samples pointed to, shape (n,).
        rng: Chooses at most 1,500 points.
    """
    across = x[part].mean(axis=0) - x[~part].mean(axis=0) if 0 < part.sum() < len(x) else x[0]
    across = across / max(float(np.linalg.norm(across)), 1e-12)
    rest = x - np.outer(x @ across, across)
    _, vectors = np.linalg.eigh(rest.T @ rest)
    chosen = rng.permutation(len(x))[:_POINTS]
    return ScatterExhibit(
        title=f"Activations of class {name!r}",
        caption=(
            "Across: from the rest of the class to the samples pointed to, in units of the spread "
            "of the other classes. Up: the widest direction besides. A gap is suspicious."
        ),
        x=tuple(float(v) for v in (x @ across)[chosen]),
        y=tuple(float(v) for v in (rest @ vectors[:, -1])[chosen]),
        group=tuple(int(v) for v in part[chosen]),
        group_names=("rest of the class", "pointed to"),
    )


def score_histogram(scores: ScoreArray, suspects: IntArray, *, value_name: str) -> HistogramExhibit:
    """Scores of the samples pointed to, and of all others."""
    inside = np.zeros(len(scores), dtype=np.bool_)
    inside[suspects] = True
    high = float(np.quantile(scores, 0.999)) if not inside.any() else float(scores.max())
    edges = np.linspace(float(scores.min()), max(high, float(scores.min()) + 1e-6), _BINS + 1)
    shown = scores.clip(edges[0], edges[-1])
    return HistogramExhibit(
        title="Scores of all samples",
        caption="As the published method scores them; higher is more suspect.",
        value_name=value_name,
        edges=tuple(float(e) for e in edges),
        counts={
            "others": tuple(int(c) for c in np.histogram(shown[~inside], edges)[0]),
            "pointed to": tuple(int(c) for c in np.histogram(shown[inside], edges)[0]),
        },
    )


def samples_shown(
    data: LabelledData, suspects: IntArray, ordinary: IntArray, *, rng: np.random.Generator
) -> tuple[Exhibit, ...]:
    """Up to eight samples pointed to, worst first, beside as many ordinary ones of their class.

    Nothing if they are no texts, and no pictures of one or three channels.
    """
    if not len(suspects):
        return ()
    if isinstance(data, TextData):
        return (texts_shown(data, suspects, ordinary),)
    if not isinstance(data, ImageData) or data.image_shape[0] not in (1, 3):
        return ()
    shown = _pictures(data, suspects[:_PICTURES])
    others = _pictures(data, rng.permutation(ordinary)[:_PICTURES])
    return (
        PicturesExhibit(
            title="Samples pointed to, and ordinary ones of the same class",
            caption=f"The first {len(shown)} are pointed to. Look for something that they share.",
            pictures=shown + others,
        ),
    )


def _pictures(data: ImageData, indices: IntArray) -> tuple[Picture, ...]:
    if not len(indices):
        return ()
    batch = data.batch(np.asarray(indices, dtype=np.int64))
    return tuple(picture(pixels, f"#{i}") for i, pixels in zip(indices, batch, strict=True))
