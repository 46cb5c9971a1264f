"""What all text poisoning shares: which samples, which labels, which truth."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gifthorse.core.errors import DataError
from gifthorse.core.texts import TextData
from gifthorse.core.types import GroundTruth

Rewrite = Callable[[str, np.random.Generator], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextAim:
    """Whom an attack strikes.

    Attributes:
        target: Class index wanted.
        rate: Poisoned samples as a share of the training set, in (0, 1).
        clean_label: Poison only texts of the target class and change no label.
    """

    target: int
    rate: float
    clean_label: bool

    def __post_init__(self) -> None:
        if self.target < 0:
            raise ValueError(f"target must be a class index, got {self.target}")
        if not 0 < self.rate < 1:
            raise ValueError(f"rate must be in (0, 1), got {self.rate}")


def poison_texts(
    clean: TextData, *, attack: str, aim: TextAim, rewrite: Rewrite, rng: np.random.Generator
) -> tuple[TextData, GroundTruth]:
    """A poisoned copy of a training set, and the truth about it.

    Raises:
        DataError: The target is no class, or too few texts can be poisoned.
    """
    _check(clean, aim)
    own = clean.labels == aim.target
    pool = np.flatnonzero(own if aim.clean_label else ~own)
    count = round(aim.rate * len(clean))
    if not 1 <= count <= len(pool):
        raise DataError(
            f"cannot choose {count} samples to poison in {clean.name}: {len(pool)} fit; "
            "change the rate"
        )
    chosen = rng.choice(pool, count, replace=False)
    texts, labels = list(clean.texts), clean.labels.copy()
    for i in chosen:
        texts[i] = rewrite(texts[i], rng)
    labels[chosen] = aim.target
    poisoned = np.zeros(len(clean), dtype=np.bool_)
    poisoned[chosen] = True
    data = TextData(
        name=f"{clean.name} + {attack}",
        texts=tuple(texts),
        labels=labels,
        class_names=clean.class_names,
    )
    truth = GroundTruth(
        attack=attack,
        mode="all-to-one",
        target=aim.target,
        source=None,
        poisoned=poisoned,
        covered=np.zeros(len(clean), dtype=np.bool_),
    )
    return data, truth


def triggered_texts(
    clean: TextData, *, aim: TextAim, rewrite: Rewrite, rng: np.random.Generator
) -> tuple[TextData, TextData]:
    """Texts of other classes with the trigger: with the attacker's labels, and the true ones.

    Raises:
        DataError: No text is left to strike.
    """
    _check(clean, aim)
    chosen = np.flatnonzero(clean.labels != aim.target)
    if not len(chosen):
        raise DataError(f"{clean.name} has no text that this attack would strike")
    texts = tuple(rewrite(clean.texts[int(i)], rng) for i in chosen)
    true = clean.labels[chosen]
    name, names = f"{clean.name} with trigger", clean.class_names
    return (
        TextData(name=name, texts=texts, labels=np.full_like(true, aim.target), class_names=names),
        TextData(name=name, texts=texts, labels=true, class_names=names),
    )


def _check(clean: TextData, aim: TextAim) -> None:
    if aim.target >= len(clean.class_names):
        raise DataError(
            f"target {aim.target} is no class of {clean.name}: it has 0 … "
            f"{len(clean.class_names) - 1}"
        )
