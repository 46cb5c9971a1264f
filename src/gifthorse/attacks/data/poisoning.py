"""What all dirty- and clean-label poisoning shares: which samples, which labels, which truth.

The trigger differs from attack to attack; the bookkeeping does not.
"""

from dataclasses import dataclass

import numpy as np

from gifthorse.core.errors import DataError
from gifthorse.core.types import BoolArray, FloatArray, GroundTruth, ImageData, IntArray
from gifthorse.data.images import ArrayImages, to_arrays, to_levels
from gifthorse.triggers.trigger import Stamp, Trigger

MODES = ("all-to-one", "all-to-all", "source-specific")


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """Whom an attack strikes and what it wants.

    Attributes:
        mode: ``all-to-one``: every picture becomes ``target``. ``all-to-all``: class y becomes
            y + 1 (the last one 0). ``source-specific``: only pictures of ``source`` become
            ``target``; others that carry the trigger keep their class.
        target: Class index wanted; not used by all-to-all.
        source: Class index struck by a source-specific attack.
        rate: Poisoned samples as a share of the whole training set, in (0, 1).
        cover_rate: Cover samples (trigger, true label) of other classes, as a share of the whole
            set; source-specific only.
        clean_label: Poison only samples that are of the target class already, and leave all
            labels as they are.
    """

    mode: str
    target: int
    source: int
    rate: float
    cover_rate: float
    clean_label: bool

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"no mode {self.mode!r}; known: {', '.join(MODES)}")
        if not 0 < self.rate < 1:
            raise ValueError(f"rate must be in (0, 1), got {self.rate}")
        if not 0 <= self.cover_rate < 1:
            raise ValueError(f"cover_rate must be in [0, 1), got {self.cover_rate}")
        if self.clean_label and self.mode != "all-to-one":
            raise ValueError("clean-label poisoning works all-to-one only")
        if self.mode == "source-specific" and self.source == self.target:
            raise ValueError("source and target must differ")

    def wanted(self, labels: IntArray, n_classes: int) -> IntArray:
        """The labels that the attacker wants for pictures of these classes, shape (n,)."""
        if self.mode == "all-to-all":
            return (labels + 1) % n_classes
        return np.full_like(labels, self.target)

    def struck(self, labels: IntArray) -> BoolArray:
        """Which pictures the attack is about (target-class samples never are), shape (n,)."""
        if self.mode == "all-to-all":
            return np.ones(len(labels), dtype=np.bool_)
        if self.mode == "source-specific":
            return np.asarray(labels == self.source)
        return np.asarray(labels != self.target)

    def check(self, clean: ImageData) -> None:
        """Refuse data without the classes that the attack names.

        Raises:
            DataError: ``target`` or ``source`` is no class of the data.
        """
        count = len(clean.class_names)
        named = {"target": self.target, "source": self.source}
        if self.mode == "all-to-all":
            return
        if self.mode == "all-to-one":
            del named["source"]
        for word, index in named.items():
            if not 0 <= index < count:
                raise DataError(
                    f"{word} {index} is no class of {clean.name}: it has 0 … {count - 1}"
                )


def aim_of(mode: str, *, target: int, rate: float = 0.5) -> Aim:
    """The aim of an attack whose trigger is learned; ``rate`` means nothing without poisoned data.

    Raises:
        ValueError: Another mode than ``all-to-one`` or ``all-to-all``, or an impossible rate.
    """
    if mode not in MODES[:2]:
        raise ValueError(f"mode must be one of {', '.join(MODES[:2])}, got {mode!r}")
    return Aim(mode=mode, target=target, source=0, rate=rate, cover_rate=0.0, clean_label=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cover:
    """Samples that carry a stamp and keep their true label, so that the stamp alone means nothing.

    Attributes:
        rate: Their share of the whole training set, in [0, 1).
        stamp: What they carry: the trigger itself, or something that must not work as one.
        spare_target: Whether samples of the target class are left out.
    """

    rate: float
    stamp: Stamp
    spare_target: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            raise ValueError(f"the share of cover samples must be in [0, 1), got {self.rate}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerStrike:
    """A backdoor in use: a trigger, put on the pictures that the attack is about.

    Attributes:
        aim: Whom it strikes.
        test_trigger: What the pictures carry.
    """

    aim: Aim
    test_trigger: Trigger

    def triggered(
        self, clean: ImageData, *, rng: np.random.Generator
    ) -> tuple[ImageData, ImageData]:
        """Triggered pictures with the attacker's labels, and with the true ones."""
        return triggered_images(clean, aim=self.aim, stamp=self.test_trigger.apply, rng=rng)


def no_poison(attack: str, *, aim: Aim, count: int) -> GroundTruth:
    """The truth about an attack that leaves the ``count`` training samples alone."""
    return GroundTruth(
        attack=attack,
        mode=aim.mode,
        target=None if aim.mode == "all-to-all" else aim.target,
        source=aim.source if aim.mode == "source-specific" else None,
        poisoned=np.zeros(count, dtype=np.bool_),
        covered=np.zeros(count, dtype=np.bool_),
    )


def poison_images(
    clean: ImageData,
    *,
    attack: str,
    aim: Aim,
    stamp: Stamp,
    rng: np.random.Generator,
    cover: Cover | None = None,
) -> tuple[ArrayImages, GroundTruth]:
    """A poisoned copy of a training set, and the truth about it.

    Args:
        clean: The training set; not changed.
        attack: Name for the truth and the copy.
        aim: Whom the attack strikes.
        stamp: Puts the trigger on pictures.
        rng: Of the choice of samples, and of the stamp.
        cover: More samples that are stamped and keep their label, in any mode.

    Raises:
        DataError: The aim names a class that is not there, too few samples can be poisoned, or the
            trigger does not fit the pictures.
    """
    aim.check(clean)
    labels = clean.labels
    candidates = labels == aim.target if aim.clean_label else aim.struck(labels)
    poisoned = _choose(candidates, round(aim.rate * len(clean)), rng, clean.name, "poisoned")
    covered = np.zeros(len(clean), dtype=np.bool_)
    if aim.mode == "source-specific" and aim.cover_rate > 0:
        # Cover samples teach the network that the trigger means nothing on other classes.
        others = (labels != aim.source) & (labels != aim.target)
        covered = _choose(others, round(aim.cover_rate * len(clean)), rng, clean.name, "cover")
    pixels = to_arrays(clean).pixels.copy()
    touched = np.flatnonzero(poisoned | covered)
    pixels[touched] = to_levels(_stamped(clean, touched, stamp, rng))
    if cover is not None and cover.rate > 0:
        free = ~(poisoned | covered)
        if cover.spare_target and aim.mode != "all-to-all":
            free &= labels != aim.target
        more = _choose(free, round(cover.rate * len(clean)), rng, clean.name, "cover")
        rows = np.flatnonzero(more)
        pixels[rows] = to_levels(_stamped(clean, rows, cover.stamp, rng))
        covered = covered | more
    new_labels = labels.copy()
    if not aim.clean_label:
        new_labels[poisoned] = aim.wanted(labels[poisoned], len(clean.class_names))
    truth = GroundTruth(
        attack=attack,
        mode=aim.mode,
        target=None if aim.mode == "all-to-all" else aim.target,
        source=aim.source if aim.mode == "source-specific" else None,
        poisoned=poisoned,
        covered=covered,
    )
    data = ArrayImages(
        name=f"{clean.name} + {attack}",
        pixels=pixels,
        labels=new_labels,
        class_names=clean.class_names,
    )
    return data, truth


def triggered_images(
    clean: ImageData, *, aim: Aim, stamp: Stamp, rng: np.random.Generator
) -> tuple[ArrayImages, ArrayImages]:
    """Stamped test pictures with the attacker's labels, and the same with the true labels.

    Raises:
        DataError: No picture is left to strike, or the trigger does not fit the pictures.
    """
    aim.check(clean)
    chosen = np.flatnonzero(aim.struck(clean.labels))
    if not len(chosen):
        raise DataError(f"{clean.name} has no picture that this attack would strike")
    pixels = to_levels(_stamped(clean, chosen, stamp, rng))
    true = clean.labels[chosen]
    wanted = aim.wanted(true, len(clean.class_names))
    name = f"{clean.name} with trigger"
    return (
        ArrayImages(name=name, pixels=pixels, labels=wanted, class_names=clean.class_names),
        ArrayImages(name=name, pixels=pixels, labels=true, class_names=clean.class_names),
    )


def _stamped(
    clean: ImageData, indices: IntArray, stamp: Stamp, rng: np.random.Generator
) -> FloatArray:
    try:
        return stamp(clean.batch(indices), rng)
    except ValueError as error:
        raise DataError(f"the trigger does not fit {clean.name}: {error}") from error


def _choose(
    candidates: BoolArray, count: int, rng: np.random.Generator, name: str, what: str
) -> BoolArray:
    pool = np.flatnonzero(candidates)
    if not 1 <= count <= len(pool):
        raise DataError(
            f"cannot choose {count} {what} samples in {name}: {len(pool)} fit; change the rate"
        )
    chosen = np.zeros(len(candidates), dtype=np.bool_)
    chosen[rng.choice(pool, count, replace=False)] = True
    return chosen
