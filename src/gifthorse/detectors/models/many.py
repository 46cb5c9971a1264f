"""Universality among many classes: does one class stand out among the easiest sinks?

With a thousand classes no class can be given a search of its own. The easiest sinks of the network
are found without going through the classes (``sinks.py``), for every basic family of perturbations,
and the easiest is compared with the ones that follow it (``metrics/spacings.py``,
docs/decisions/0025-many-classes.md). The statistic is −ln p of the family that says most, before
Bonferroni.

Large pictures get fewer starts, steps and pictures, since each pass costs a thousand times as much;
their masks are constant on the cells of a grid, since noise as fine as their pixels reaches any
class.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from gifthorse.core.exhibits import BarsExhibit, Exhibit
from gifthorse.core.rng import draw_seed
from gifthorse.core.types import Evidence, Progress, Unit
from gifthorse.detectors.models.inversion import Additive, Masked
from gifthorse.detectors.models.pictures import trigger_pictures
from gifthorse.detectors.models.ratios import trigger_of
from gifthorse.detectors.models.sinks import Effort, Sink, SinkSearch
from gifthorse.detectors.models.trusted import Probe
from gifthorse.metrics.spacings import FEWEST, UNKNOWN, GapNull, GapPrior, surprise
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.precision import half_precision
from gifthorse.models.stickers import stickers

CELLS = 56
"""Masks are constant on the cells of a grid of at most so many rows."""
PICTURES = 32
"""Trusted pictures that the search uses; the others check what it found."""
JUDGED = 2 / 3
"""Share of the sinks that are judged, the easiest; the others are searches that went less well."""
_LARGE = 64 * 64
"""Pixels of a picture from which on less is tried."""
_OPACITY = 0.12
_RATES = {"masked": 0.3, "additive": 0.02}
FAMILIES = tuple(_RATES)
LARGE_PRIOR = GapPrior(scale=0.3, weight=8.0)
"""Gaps between the log sizes of a clean network's easiest sinks, for large pictures: they get less
effort, so a search that stops early makes gaps large (docs/decisions/0025)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What one family found."""

    name: str
    family: Masked | Additive
    sinks: list[Sink]
    judged: int
    prior: GapPrior

    @property
    def reached(self) -> list[Sink]:
        """The smallest first."""
        found = [sink for sink in self.sinks if np.isfinite(sink.size)]
        return sorted(found, key=lambda sink: sink.size)

    @property
    def statistic(self) -> float:
        """−ln p of the gap after the first; 0 if there is nothing to compare."""
        sizes = np.array([sink.size for sink in self.reached[: self.judged]])
        if len(sizes) < FEWEST:
            return 0.0
        return surprise(-np.log(sizes.clip(1e-6)), self.prior)


def effort_for(pixels: int, name: str, goal: float) -> tuple[Effort, int]:
    """What is done a round, and how many starts are looked at, for pictures of so many pixels.

    Additive starts are all alike, so fewer of them run.
    """
    few = name == "additive"
    if pixels > _LARGE:
        effort = Effort(rounds=10, tries=4, free=8, last=1, steps=88, pictures=8, goal=goal)
        return (replace(effort, tries=2, steps=32), 8) if few else (effort, 64)
    effort = Effort(rounds=12, tries=10, free=16, last=3, steps=48, pictures=12, goal=goal)
    return (replace(effort, tries=6, last=2), 32) if few else (effort, 256)


def among_many(
    classifier: ImageClassifier,
    probe: Probe,
    *,
    goal: float,
    rng: np.random.Generator,
    progress: Progress,
) -> Evidence:
    """Evidence about the easiest sinks of a network of many classes."""
    fast = half_precision(classifier)
    few = Probe(x=probe.x[:PICTURES], y=probe.y[:PICTURES])
    found = [_search(fast, few, name, goal, rng, progress) for name in FAMILIES]
    names = classifier.class_names
    scores = np.zeros(classifier.n_classes)
    for one in found:
        if one.reached:
            first = one.reached[0].target
            scores[first] = max(scores[first], one.statistic)
    worst = int(scores.argmax())
    heard = [one for one in found if one.reached and one.reached[0].target == worst]
    heard.sort(key=lambda one: -one.statistic)
    triggers = tuple(
        trigger_of(one.family, one.reached[0].parameters, worst, probe.shape) for one in heard
    )
    exhibits: list[Exhibit] = [
        trigger_pictures(probe, trigger, names, f"The {one.name} search")
        for trigger, one in zip(triggers, heard, strict=True)
    ]
    exhibits.append(_statistics(found, names))
    exhibits += [_sizes(one, names, worst) for one in found if one.reached]
    mute = [one.name for one in found if len(one.reached) < FEWEST]
    return Evidence(
        unit=Unit.CLASS,
        scores=scores,
        statistic=float(scores[worst]),
        suspects=np.array([worst], dtype=np.int64),
        triggers=triggers,
        exhibits=tuple(exhibits),
        notes=tuple(_notes(found, classifier, probe)),
        unfinished=_unfinished(mute),
    )


def null_of_many() -> GapNull:
    """How the statistic is distributed over clean models."""
    return GapNull(
        tests=len(FAMILIES),
        priors=f"what clean classes showed in development ({LARGE_PRIOR.scale:g}), for pictures of "
        f"more than {_LARGE:,} pixels",
    )


def _search(
    classifier: ImageClassifier,
    probe: Probe,
    name: str,
    goal: float,
    rng: np.random.Generator,
    progress: Progress,
) -> _Found:
    channels, height, width = probe.shape
    effort, count = effort_for(height * width, name, goal)
    generator = torch.Generator().manual_seed(draw_seed(rng))
    family: Masked | Additive = Additive()
    starts = family.start(count, probe.shape, generator)
    if name == "masked":
        grid = (min(height, CELLS), min(width, CELLS))
        family = Masked(start_opacity=_OPACITY, cells=CELLS)
        veils = family.start(count // 4, probe.shape, generator)
        some = stickers(count - count // 4, (channels, *grid), rng=rng)
        starts = [torch.cat(both) for both in zip(some, veils, strict=True)]
    search = SinkSearch(
        classifier, probe, family, starts, effort, learning_rate=_RATES[name], rng=rng
    )
    return _Found(
        name=name,
        family=family,
        sinks=search.run(progress, f"{name} sinks"),
        judged=math.ceil(JUDGED * effort.rounds),
        prior=LARGE_PRIOR if height * width > _LARGE else UNKNOWN,
    )


def _statistics(found: list[_Found], names: tuple[str, ...]) -> BarsExhibit:
    """One bar a family: how far its first class stands from the next ones."""
    heard = [one for one in found if one.reached]
    return BarsExhibit(
        title="How far the easiest class stands out",
        caption="One bar a kind of change: −ln p of the gap between the class that is easiest to "
        "reach and the next ones.",
        labels=tuple(f"{one.name}: {names[one.reached[0].target]}" for one in heard),
        values=tuple(float(f"{one.statistic:.5g}") for one in heard),
        value_name="−ln p",
        judged=True,
    )


def _sizes(one: _Found, names: tuple[str, ...], worst: int) -> BarsExhibit:
    """One bar a class that was found, the easiest first."""
    targets = [sink.target for sink in one.reached]
    return BarsExhibit(
        title=f"{one.name}: size of the smallest change".capitalize(),
        caption="The classes that one change for all pictures reaches most easily, out of "
        f"{len(names)}; each was found with those before it forbidden.",
        labels=tuple(names[target] for target in targets),
        values=tuple(float(f"{sink.size:.5g}") for sink in one.reached),
        value_name="size",
        highlight=tuple(i for i, target in enumerate(targets) if target == worst),
    )


def _notes(found: list[_Found], classifier: ImageClassifier, probe: Probe) -> list[str]:
    """What was searched, and what the easiest change does to pictures that no search saw."""
    names = classifier.class_names
    notes = [
        f"{len(names)} classes: searched for changes that send all pictures to one class, "
        f"whichever; the {len(one.sinks)} easiest found by the {one.name} search: "
        + ", ".join(_said(sink, names) for sink in one.sinks)
        for one in found
    ]
    x, y = probe.x[PICTURES:], probe.y[PICTURES:]
    for one in found:
        if not one.reached:
            continue
        sink = one.reached[0]
        rows = torch.nonzero(y != sink.target)[:, 0]
        with torch.inference_mode():
            parts = [
                classifier.logits(one.family.apply(sink.parameters, some)[0]).argmax(1)
                for some in torch.split(x[rows], 8)
            ]
        if parts:
            sent = int((torch.cat(parts) == sink.target).sum())
            notes.append(
                f"the {one.name} change to {names[sink.target]!r} sends {sent} of {len(rows)} "
                "trusted pictures there that were no part of the search"
            )
    return notes


def _said(sink: Sink, names: tuple[str, ...]) -> str:
    if np.isfinite(sink.size):
        return f"{names[sink.target]!r} {sink.size:.3g}"
    return f"{names[sink.target]!r} not reached ({sink.share:.0%})"


def _unfinished(mute: list[str]) -> str:
    if not mute:
        return ""
    return (
        f"the {' and '.join(mute)} search reached fewer than {FEWEST} classes, so the easiest "
        "cannot be compared with others"
    )
