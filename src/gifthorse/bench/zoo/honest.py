"""Hard negatives: training data that is odd in an honest way.

No picture gets a trigger. Each kind gives a clean network a class that is special for another
reason than a backdoor, which is what a detector must not flag.
"""

import numpy as np

from gifthorse.bench.zoo.population import Honest
from gifthorse.core.types import ImageData
from gifthorse.data.images import ArrayImages, subset, to_arrays

_LEAST = 0.1
_NOISE = 0.1
_TINT = 30


def honest_data(kind: Honest, data: ImageData, rng: np.random.Generator) -> ImageData:
    """Training data for a clean model of a kind.

    - ``plain``, ``adversarial``: as they are (the second is trained differently).
    - ``imbalanced``: class sizes fall geometrically to a tenth, in random order.
    - ``mislabelled``: a tenth of the labels is drawn anew, uniformly.
    - ``near-duplicates``: one class gets pictures of another, a little brighter, as its own.
    - ``tinted-class``: the light in one class's pictures has another colour (brightness, if grey):
      a natural shortcut feature.
    """
    if kind == "imbalanced":
        return _imbalanced(data, rng)
    if kind == "mislabelled":
        return _mislabelled(to_arrays(data), rng)
    if kind == "near-duplicates":
        return _near_duplicates(to_arrays(data), rng)
    if kind == "tinted-class":
        return _tinted_class(to_arrays(data), rng)
    return data


def _imbalanced(data: ImageData, rng: np.random.Generator) -> ImageData:
    classes = len(data.class_names)
    shares = rng.permutation(np.geomspace(_LEAST, 1, classes))
    kept = [
        rng.permutation(rows)[: max(2, round(len(rows) * shares[c]))]
        for c in range(classes)
        if len(rows := np.flatnonzero(data.labels == c))
    ]
    return subset(data, np.sort(np.concatenate(kept)))


def _mislabelled(data: ArrayImages, rng: np.random.Generator) -> ImageData:
    labels = data.labels.copy()
    wrong = rng.random(len(labels)) < _NOISE
    labels[wrong] = rng.integers(len(data.class_names), size=int(wrong.sum()))
    return _with(data, data.pixels, labels)


def _near_duplicates(data: ArrayImages, rng: np.random.Generator) -> ImageData:
    model, copy = rng.choice(len(data.class_names), 2, replace=False)
    own, other = np.flatnonzero(data.labels == copy), np.flatnonzero(data.labels == model)
    pixels = data.pixels.copy()
    pixels[own] = _brighter(pixels[rng.choice(other, len(own))], np.array([_TINT]))
    return _with(data, pixels, data.labels)


def _tinted_class(data: ArrayImages, rng: np.random.Generator) -> ImageData:
    rows = np.flatnonzero(data.labels == rng.integers(len(data.class_names)))
    channels = data.pixels.shape[1]
    shift = _TINT * rng.choice([-1, 1], channels)
    pixels = data.pixels.copy()
    pixels[rows] = _brighter(pixels[rows], shift)
    return _with(data, pixels, data.labels)


def _brighter(
    pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
    levels: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    moved = pixels.astype(np.int64) + levels.reshape(1, -1, 1, 1)
    return moved.clip(0, 255).astype(np.uint8)


def _with(
    data: ArrayImages,
    pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
    labels: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
) -> ArrayImages:
    return ArrayImages(name=data.name, pixels=pixels, labels=labels, class_names=data.class_names)
