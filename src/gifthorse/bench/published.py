"""Compares a ledger with the published BackdoorBench table: by intervals and orderings.

Two runs of a stochastic protocol never agree in a point. A cell of ours is compared with the
published one by whether their intervals meet; the table as a whole by whether pairs of attacks,
and pairs of defences, come in the same order. Pairs whose intervals overlap in either table say
nothing and are not counted.

Published: BackdoorBench leaderboard, CIFAR-10, PreAct-ResNet18, 10 % poison (Wu et al. 2022,
arXiv:2206.12654), one run each, on 10,000 clean and 9,000 triggered test pictures. Its authors
choose some hyper-parameters (ANP's, for one) by the attack success on test data, which no defender
has: such rows are optimistic.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from gifthorse.bench.trial_record import TrialRecord
from gifthorse.core.record import Rate
from gifthorse.metrics.rates import rate

CLEAN_PICTURES, TRIGGERED_PICTURES = 10_000, 9_000
ORACLES = frozenset({"anp"})
"""Defences whose published hyper-parameters were chosen with test data."""

_DEFENCES = ("none", "fine_tuning", "fine_pruning", "nad", "unlearning", "anp", "abl", "i_bau")
# ruff: noqa: E501 - a table is read in rows
_TABLE = """
badnets 91.32/95.03 89.96/1.48 91.31/57.13 89.87/2.14 89.05/1.27 84.17/0.73 83.32/0.00 89.16/1.29
blended 93.47/99.92 92.78/96.11 93.17/99.26 92.17/97.69 93.47/99.92 86.58/2.19 77.30/0.73 87.00/50.53
label_consistent 84.59/99.92 90.83/11.34 89.53/0.44 90.54/11.28 90.43/6.99 82.16/4.81 71.84/0.00 –
sig 84.48/98.27 90.80/2.37 89.10/26.20 90.02/10.66 84.48/98.27 77.97/0.01 57.80/0.00 85.67/3.68
low_frequency 93.19/99.28 92.37/78.44 92.90/98.97 92.37/47.83 91.62/1.41 85.15/0.60 81.72/0.21 84.36/44.96
ssba 92.88/97.86 92.14/74.79 92.54/83.50 91.91/77.40 90.99/0.58 86.54/0.39 80.79/0.00 87.67/3.97
wanet 91.25/89.73 93.48/17.10 91.46/1.09 93.17/22.98 91.80/7.53 85.73/0.43 83.19/0.00 89.49/5.21
input_aware 90.67/98.26 93.12/1.72 91.74/0.04 93.18/1.68 92.61/0.76 90.36/1.64 63.19/90.16 89.17/27.08
bpp 90.69/99.78 93.25/2.54 92.70/18.39 92.81/2.46 92.68/2.84 81.78/0.24 78.55/13.77 90.99/6.24
trojan_nn 93.42/100 92.42/5.99 92.47/71.07 91.88/3.73 91.76/8.22 86.87/0.20 11.07/100 90.37/2.91
"""

Cells = dict[tuple[str, str], "Pair"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Clean accuracy and attack success rate of one cell."""

    ca: Rate
    asr: Rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One cell of both tables. ``relation``: overlaps, higher or lower (ours against theirs)."""

    attack: str
    defence: str
    metric: str
    ours: Rate
    theirs: Rate
    relation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordering:
    """Pairs that are told apart in both tables: how many come in the same order."""

    what: str
    same: int
    opposite: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The whole comparison; ``same_protocol`` is false if the study is not a repetition."""

    cells: tuple[Compared, ...]
    orderings: tuple[Ordering, ...]
    same_protocol: bool


def published() -> Cells:
    """The published table; intervals from the number of test pictures."""
    cells: Cells = {}
    for line in _TABLE.strip().splitlines():
        attack, *found = line.split()
        for defence, text in zip(_DEFENCES, found, strict=True):
            if text != "–":
                ca, asr = (float(part) / 100 for part in text.split("/"))
                cells[attack, defence] = Pair(
                    ca=rate(round(ca * CLEAN_PICTURES), CLEAN_PICTURES),
                    asr=rate(round(asr * TRIGGERED_PICTURES), TRIGGERED_PICTURES),
                )
    return cells


def repeats_protocol(record: TrialRecord) -> bool:
    """Whether a trial repeats the data, network and poison rate of the published table."""
    trial = record.trial
    poison = trial.attack.params.get("rate") if trial.attack else None
    return (
        trial.data.source == "cifar10"
        and trial.model.architecture == "preact-resnet18"
        and poison in (None, 0.1)
    )


def compare(records: Sequence[TrialRecord], *, any_protocol: bool = False) -> Comparison:
    """Compare what a ledger shares with the published table.

    Args:
        records: Of a ledger.
        any_protocol: Also compare studies of other data or networks; then only orderings mean
            anything, and not much.
    """
    used = [r for r in records if any_protocol or repeats_protocol(r)]
    ours, theirs = _ours(used), published()
    shared = sorted(ours.keys() & theirs.keys())
    cells = []
    for key in shared:
        for metric in ("ca", "asr"):
            mine, their = getattr(ours[key], metric), getattr(theirs[key], metric)
            cells.append(
                Compared(
                    attack=key[0],
                    defence=key[1],
                    metric=metric,
                    ours=mine,
                    theirs=their,
                    relation=_relation(mine, their),
                )
            )
    return Comparison(
        cells=tuple(cells),
        orderings=(
            _ordering("attacks by ASR, under the same defence", ours, theirs, shared, 1, "asr"),
            _ordering("defences by ASR, against the same attack", ours, theirs, shared, 0, "asr"),
            _ordering("defences by CA, against the same attack", ours, theirs, shared, 0, "ca"),
        ),
        same_protocol=bool(used) and all(repeats_protocol(r) for r in used),
    )


def _ours(records: Iterable[TrialRecord]) -> Cells:
    """Cells of a ledger; seeds are pooled, and their range widens the interval."""
    groups: dict[tuple[str, str], list[Pair]] = {}
    for record in records:
        quality = record.quality
        if record.trial.attack is None or quality is None or quality.attack_success_rate is None:
            continue
        defence = record.trial.defence.name if record.trial.defence else "none"
        pair = Pair(ca=quality.clean_accuracy, asr=quality.attack_success_rate)
        groups.setdefault((record.trial.attack.name, defence), []).append(pair)
    return {
        key: Pair(ca=_pooled([p.ca for p in pairs]), asr=_pooled([p.asr for p in pairs]))
        for key, pairs in groups.items()
    }


def _pooled(rates: Sequence[Rate]) -> Rate:
    whole = rate(sum(r.count for r in rates), sum(r.total for r in rates))
    low = min([whole.low, *(r.low for r in rates)])
    high = max([whole.high, *(r.high for r in rates)])
    return whole.model_copy(update={"low": low, "high": high})


def _relation(ours: Rate, theirs: Rate) -> str:
    if ours.low > theirs.high:
        return "higher"
    return "lower" if ours.high < theirs.low else "overlaps"


def _ordering(
    what: str,
    ours: Cells,
    theirs: Cells,
    shared: Sequence[tuple[str, str]],
    fixed: int,
    metric: str,
) -> Ordering:
    same = opposite = 0
    for one, two in combinations(shared, 2):
        if one[fixed] != two[fixed]:
            continue
        mine = _relation(getattr(ours[one], metric), getattr(ours[two], metric))
        their = _relation(getattr(theirs[one], metric), getattr(theirs[two], metric))
        if "overlaps" not in (mine, their):
            same += mine == their
            opposite += mine != their
    return Ordering(what=what, same=same, opposite=opposite)
