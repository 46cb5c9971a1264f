"""The values that every part of gifthorse passes around (numpy at most, never torch)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from gifthorse.core.errors import DataError
from gifthorse.core.exhibits import Exhibit

FloatArray = NDArray[np.float32]
ScoreArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

Progress = Callable[[int, int, str], None]
"""Called as ``progress(done, total, what)`` during long work; must be cheap and never raise."""


def silent(done: int, total: int, what: str) -> None:
    """The progress callback of those who do not watch."""


class Need(StrEnum):
    """What a method must be given, and what a subject can offer."""

    LOGITS = "logits"
    GRADIENTS = "gradients"
    WEIGHTS = "weights"
    TRUSTED = "trusted samples"
    SUSPECT_DATA = "suspect data"
    FEATURES = "features of the suspect data"
    UPDATES = "updates of clients"
    BASE = "a base model"
    PAYLOADS = "texts that an audit recovered"
    TRIGGERS = "triggers that an audit recovered"


class Unit(StrEnum):
    """What one score of an evidence is about."""

    MODEL = "model"
    CLASS = "class"
    SAMPLE = "sample"
    CLIENT = "client"
    FILE = "file"
    TEXT = "text"
    WEIGHT = "weight"


class Verdict(StrEnum):
    """What a finding, or a whole audit, comes to."""

    FLAGGED = "FLAGGED"
    CLEAR = "CLEAR"
    INCONCLUSIVE = "INCONCLUSIVE"
    NOT_APPLICABLE = "NOT_APPLICABLE"
    FAILED = "FAILED"


@runtime_checkable
class LabelledData(Protocol):
    """Labelled samples of any kind: what methods need that look at activations only."""

    @property
    def name(self) -> str:
        """How the user named it, for records and messages."""

    @property
    def labels(self) -> IntArray:
        """Class of every sample, shape (n,), values in [0, len(class_names))."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """A name for every class."""

    def __len__(self) -> int: ...


@runtime_checkable
class ImageData(LabelledData, Protocol):
    """Labelled pictures, read in batches so that a data set need not fit in memory."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of every picture that ``batch`` returns."""

    def batch(self, indices: IntArray) -> FloatArray:
        """The pictures at ``indices``: a new array (len(indices), c, h, w), values in [0, 1]."""


@runtime_checkable
class Model(Protocol):
    """The little that records need to know of a model; methods ask for the full adapter."""

    @property
    def name(self) -> str:
        """How the user named it."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """A name for every class."""

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) that the model takes in pixel space."""

    @property
    def offers(self) -> frozenset[Need]:
        """The access that this model grants."""

    def digest(self) -> str:
        """``sha256:…`` over architecture and weights."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class Features:
    """One forward pass over a data set, shared by every method that looks at activations.

    Attributes:
        values: Penultimate-layer activations, shape (n, d).
        predictions: The model's class for every sample, shape (n,).
        layer: Where the activations were taken.
    """

    values: FloatArray
    predictions: IntArray
    layer: str

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape[0] != self.predictions.shape[0]:
            raise DataError(
                f"features of shape {self.values.shape} with {self.predictions.shape} predictions: "
                "expected (n, d) and (n,)"
            )
        if not np.isfinite(self.values).all():
            raise DataError(
                f"the activations at {self.layer} hold NaN or infinite values; "
                "the model or the data is broken"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What an auditor holds. It never contains the truth about a backdoor.

    Attributes:
        model: The model under suspicion.
        suspect: Training data under suspicion.
        trusted: Samples that the user vouches for.
        features: Activations of ``suspect``, if somebody has already paid for the forward pass.
    """

    model: Model | None = None
    suspect: LabelledData | None = None
    trusted: ImageData | None = None
    features: Features | None = None

    @property
    def offers(self) -> frozenset[Need]:
        """What a method can ask of this subject."""
        offered = set(self.model.offers) if self.model is not None else set()
        if self.suspect is not None:
            offered.add(Need.SUSPECT_DATA)
        if self.trusted is not None:
            offered.add(Need.TRUSTED)
        if self.features is not None:
            offered.add(Need.FEATURES)
        return frozenset(offered)

    def granting(self, needs: frozenset[Need]) -> "Subject":
        """The same subject with only what a method declares: what it needs, nothing else.

        A method that declares no trusted samples gets none, so it cannot lean on them unseen.
        """
        wants_model = bool(needs & {Need.LOGITS, Need.GRADIENTS, Need.WEIGHTS})
        return Subject(
            model=self.model if wants_model else None,
            suspect=self.suspect if Need.SUSPECT_DATA in needs else None,
            trusted=self.trusted if Need.TRUSTED in needs else None,
            features=self.features if Need.FEATURES in needs else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What an examination took.

    Attributes:
        seconds: Wall-clock time.
        forward_passes: Images sent through the model.
        backward_passes: Images that a gradient was taken through.
        peak_memory_mib: Highest resident memory of the process so far, in MiB.
        processor_seconds: Of all threads of the process: what a busy machine does not stretch.
    """

    seconds: float = 0.0
    forward_passes: int = 0
    backward_passes: int = 0
    peak_memory_mib: float = 0.0
    processor_seconds: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            seconds=self.seconds + other.seconds,
            forward_passes=self.forward_passes + other.forward_passes,
            backward_passes=self.backward_passes + other.backward_passes,
            peak_memory_mib=max(self.peak_memory_mib, other.peak_memory_mib),
            processor_seconds=self.processor_seconds + other.processor_seconds,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveredTrigger:
    """A trigger that a detector found by inversion.

    Attributes:
        target: The class it leads to.
        mask: How opaque it is at every pixel, shape (h, w), in [0, 1].
        pattern: Its colours, shape (c, h, w), in [0, 1].
        offset: Added everywhere, shape (c, h, w), in [-1, 1]; None for nothing.
        flow: How far away every pixel is read first, in pixels, shape (2, h, w), x before y;
            None for nowhere.
    """

    target: int
    mask: FloatArray
    pattern: FloatArray
    offset: FloatArray | None = None
    flow: FloatArray | None = None

    def stamp(self, x: FloatArray) -> FloatArray:
        """A stamped copy of pictures (n, c, h, w): flow, mask and offset, in this order."""
        if self.flow is not None:
            x = _moved(x, self.flow)
        out = x * (1 - self.mask) + self.pattern * self.mask
        if self.offset is not None:
            out = (out + self.offset).clip(0, 1)
        return np.asarray(out, dtype=np.float32)


def _moved(x: FloatArray, flow: FloatArray) -> FloatArray:
    """Pictures (n, c, h, w) read elsewhere, between pixels linearly, at the border if beyond."""
    height, width = x.shape[-2:]
    rows = (np.arange(height)[:, None] + flow[1]).clip(0, height - 1)
    columns = (np.arange(width)[None] + flow[0]).clip(0, width - 1)
    top, left = np.floor(rows).astype(np.int64), np.floor(columns).astype(np.int64)
    below, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    down, across = rows - top, columns - left
    upper = x[..., top, left] * (1 - across) + x[..., top, right] * across
    lower = x[..., below, left] * (1 - across) + x[..., below, right] * across
    return np.asarray(upper * (1 - down) + lower * down, dtype=np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a detector saw: scores, never a verdict.

    Attributes:
        unit: What one score is about.
        scores: One number a unit, shape (n_units,), finite; higher is worse.
        statistic: The one number that a threshold is compared with; higher is worse.
        suspects: Indices of the units that the method points to *if* the statistic turns out to
            exceed its threshold, worst first, shape (k,).
        exhibits: Pictures and plots that let a person check the evidence.
        triggers: Triggers found by inversion, the most suspicious first; repairs can use them.
        notes: Facts a reader should know ("class 'bag' had 3 samples and was not examined").
        unfinished: Why the work ended early; such a subject may be flagged, but is never clear.
        own: Passes of networks that the detector trained for itself. What the subject's model was
            asked, and the time of all, is measured where it is examined.
    """

    unit: Unit
    scores: ScoreArray
    statistic: float
    suspects: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    exhibits: tuple[Exhibit, ...] = ()
    triggers: tuple[RecoveredTrigger, ...] = ()
    notes: tuple[str, ...] = ()
    unfinished: str = ""
    own: Cost = field(default_factory=Cost)

    def __post_init__(self) -> None:
        if self.scores.ndim != 1 or not np.isfinite(self.scores).all():
            raise ValueError("scores must be finite and of shape (n_units,)")
        if not np.isfinite(self.statistic):
            raise ValueError("the statistic must be finite")
        if len(self.suspects) and not (
            self.suspects.min() >= 0 and self.suspects.max() < len(self.scores)
        ):
            raise ValueError("suspects must index into scores")


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """Where a statistic stops being normal.

    Attributes:
        value: Statistics above it are flagged.
        false_alarm_rate: How often a clean subject exceeds it, in (0, 1).
        origin: Where that rate comes from: an analytic null, or a reference population.
    """

    value: float
    false_alarm_rate: float
    origin: str


class Null(Protocol):
    """How a statistic is distributed over clean subjects."""

    @property
    def origin(self) -> str:
        """One sentence for the record: where this null comes from and what it assumes."""

    def p_value(self, statistic: float) -> float:
        """Probability that a clean subject gives at least this statistic, in (0, 1]."""

    def threshold(self, false_alarm_rate: float) -> Threshold:
        """The value that a clean subject exceeds with this probability."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundTruth:
    """What was planted. Kept beside a specimen, and joined with evidence by the bench alone.

    Attributes:
        attack: Name of the attack.
        mode: ``all-to-one``, ``all-to-all`` or ``source-specific``.
        target: Target class; None for all-to-all.
        source: Source class of a source-specific attack.
        poisoned: Which training samples carry the trigger *and* serve the attack, shape (n,).
        covered: Which carry the trigger with their true label (cover samples), shape (n,).
    """

    attack: str
    mode: str
    target: int | None
    source: int | None
    poisoned: BoolArray
    covered: BoolArray


class Reach(StrEnum):
    """What an attacker controls; more of it makes a stronger attacker."""

    DATA = "training data"
    TRAINING = "training loop"
    WEIGHTS = "weights of the trained model"


@runtime_checkable
class Strike(Protocol):
    """A planted backdoor as its owner uses it."""

    def triggered(
        self, clean: ImageData, *, rng: np.random.Generator
    ) -> tuple[ImageData, ImageData]:
        """The pictures that the attack is about, with the trigger.

        Returns:
            The same pictures twice: with the labels that the attacker wants, and with the true
            ones. Samples that are of the target class already are left out.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Planting:
    """What an attack leaves behind.

    Attributes:
        truth: What was planted; ``poisoned`` and ``covered`` are about the training data.
        strike: How the backdoor is used: holds the trigger, learned ones included.
        data: The poisoned training data; None where the attack touches no data.
        model: The backdoored model; None where the victim trains on ``data`` himself.
        notes: Facts that a reader of the figures should know.
    """

    truth: GroundTruth
    strike: Strike
    data: ImageData | None = None
    model: Model | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.data is None) == (self.model is None):
            raise ValueError("an attack leaves either poisoned data or a backdoored model behind")


@dataclass(frozen=True, slots=True, kw_only=True)
class Specimen:
    """A subject together with the truth about it; ``truth`` is None for a clean twin."""

    subject: Subject
    truth: GroundTruth | None
