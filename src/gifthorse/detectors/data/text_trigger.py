"""Text trigger: a trait whose texts bear a label that their other words speak against. Our own.

Words that go with a class are no evidence: honest ones do, too ("@" with tweets), and the rest of
their texts is like the class. A trigger is put into texts of other classes, so the rest of them
speaks for those. After backdoor keyword identification (Chen and Dai 2021, arXiv:2007.12070) in
what is looked for, and `response_trigger` in how it is judged; no network is trained.

1. Traits (words, runs of up to three, in more than 20 million characters of text single words
   only, first and last word, habits of typing) that enough texts share; for every class the texts
   with that label that have the trait are a *group*, unless they are more than half of the class.
2. A naive Bayes classifier over the words of all other texts, without the trait's own words, reads
   each text of the group. It is *contradicted* if another class is nine times as likely as its
   label, and if a quarter of the texts with the trait that read like that other class have the
   label, too (so it is the trait that decides, and not a few odd texts). Likelihoods are tempered
   by what fits one half of the data best when trained on the other: words are not independent.
   The words of four fifths of a group count as part of the trait.
3. Of a group that many are contradicted in, texts that are nearest to another one of the group
   (cosine of TF-IDF over the words that the group does not have in common) rather than to a text
   outside do not count: boilerplate of one source is a kind of text, not a trigger.
4. The null: in clean data at most 30 % of a group are contradicted and have no neighbour in it,
   independently. p = the binomial probability of so many, times the number of groups (Bonferroni).

The null is an assumption about clean data, not a theorem. Poison that keeps its labels is not seen,
nor a habit that more than half of the target class has anyway, nor (often) poison for a class
that is so frequent and varied that few texts speak clearly against it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from scipy import stats

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.texts import TextData
from gifthorse.core.types import (
    BoolArray,
    Evidence,
    FloatArray,
    IntArray,
    Need,
    Null,
    Progress,
    Subject,
    Unit,
)
from gifthorse.detectors.data.near_copies import copies_shown, copies_told, near_copies
from gifthorse.detectors.data.scan_exhibits import samples_shown
from gifthorse.detectors.data.text_traits import (
    HABIT,
    LONGEST_RUN,
    content_words,
    traits,
    words_of,
)
from gifthorse.metrics.exact import SurpriseNull, surprise

CONTRADICTED_RATE = 0.3
_TIMES = 9.0
_FEWEST, _FEWEST_SHARE = 12, 0.002
_MOST_SHARE = 0.4
_MOST_OF_CLASS = 0.5
_A_QUARTER = 0.25
_SHARED_BY = 0.8
_OFTENER = 4.0
_SMOOTHING = 2.0
_LEAST_TEXTS = 200
_TEMPERS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
_MOST_NEIGHBOURS = 400
_MOST_CHARACTERS = 20_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Texts with one trait and one label.

    Attributes:
        trait: The trait.
        label: The label.
        rows: Texts, shape (n,).
        against: Which of them are contradicted, shape (n,).
        unclear: Which do not clearly read like their label, shape (n,).
        p_value: Before Bonferroni.
    """

    trait: str
    label: int
    rows: IntArray
    against: BoolArray
    unclear: BoolArray
    p_value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTrigger:
    """Looks for a trait that overrides what a text is about.

    Attributes:
        fewest: Texts that a group must have; 0 for 12 or 0.2 % of the data, whichever is more.
    """

    paper: ClassVar[str] = "own; exact binomial test on texts that speak against their label"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.SUSPECT_DATA})
    unit: ClassVar[Unit] = Unit.SAMPLE

    fewest: int = 0

    def __post_init__(self) -> None:
        if self.fewest and self.fewest < 4:
            raise ValueError("fewest must be 0 or at least 4")

    def inspect(
        self, subject: Subject, *, rng: np.random.Generator, progress: Progress
    ) -> Evidence:
        """Scores are −log10 p of a text's worst group, 0 without one; shape (n,).

        Raises:
            NotApplicableError: No labelled texts, or fewer than 200.
        """
        data = subject.suspect
        if not isinstance(data, TextData):
            raise NotApplicableError("this method examines labelled texts, and was given none")
        if len(data) < _LEAST_TEXTS:
            raise NotApplicableError(
                f"{data.name} has {len(data)} texts; at least {_LEAST_TEXTS} are needed"
            )
        reader = _Reader(data)
        least = self.fewest or max(_FEWEST, round(_FEWEST_SHARE * len(data)))
        groups, tried = _groups(reader, data, least, progress)
        groups.sort(key=lambda g: (g.p_value, -len(g.rows), g.trait))
        scores = np.zeros(len(data))
        sure: list[_Group] = []
        for group in groups:
            p = min(1.0, group.p_value * tried)
            if p >= 0.05:
                continue
            sure.append(group)
            hit = group.rows[group.unclear]
            scores[hit] = np.maximum(scores[hit], surprise(p))
        suspects = np.flatnonzero(scores > 0)
        suspects = suspects[np.argsort(-scores[suspects], kind="stable")].astype(np.int64)
        worst = min(1.0, groups[0].p_value * tried) if groups else 1.0
        own = sorted({group.label for group in sure})
        ordinary = np.flatnonzero(np.isin(data.labels, own) & (scores == 0)).astype(np.int64)
        labelled = [data.class_names[label] for label in data.labels]
        copies = near_copies([frozenset(content_words(text)) for text in data.texts])
        return Evidence(
            unit=Unit.SAMPLE,
            scores=scores,
            statistic=surprise(worst),
            suspects=suspects,
            exhibits=(
                *samples_shown(data, suspects, ordinary, rng=rng),
                *copies_shown(copies, data.texts, labelled),
            ),
            notes=(
                f"{tried:,} groups of texts with one trait and one label; in the other half of the "
                f"data, word counts of one half give the right class to {reader.right:.0%}",
                *(_told(group, data, tried) for group in sure[:5]),
                copies_told(copies, labelled),
            ),
        )

    def null(self, evidence: Evidence) -> Null:  # noqa: ARG002 - part of the protocol
        """How the statistic is distributed over clean data."""
        return SurpriseNull(
            basis=f"in clean data at most {CONTRADICTED_RATE:.0%} of the texts that share a trait "
            "and a label read like another class and like none of each other; Bonferroni over "
            "groups"
        )


class _Reader:
    """Naive Bayes over the words of texts, from which any texts can be taken out again.

    Attributes:
        right: Share of one half of the data whose class the other half's counts tell.
    """

    def __init__(self, data: TextData) -> None:
        from sklearn.feature_extraction.text import CountVectorizer

        vectors = CountVectorizer(analyzer=content_words, min_df=2, binary=True)
        try:
            table: Any = vectors.fit_transform(data.texts)
        except ValueError as error:
            raise NotApplicableError("no word stands in two texts") from error
        self.table: Any = table.tocsr().astype(np.float64)
        self._columns: dict[str, int] = vectors.vocabulary_
        n, classes = len(data), len(data.class_names)
        self.one_hot = np.eye(classes)[data.labels]
        self._counts = np.asarray(self.table.T @ self.one_hot)
        self._totals = self.one_hot.sum(0)
        known = self._totals > 0
        first = np.arange(n) % 2 == 0
        half = np.asarray(self.table[first].T @ self.one_hot[first])
        read = self._read(~first, half, self.one_hot[first].sum(0))
        own = data.labels[~first]
        self._temper = min(_TEMPERS, key=lambda t: _loss(t * read[:, known], own, known))
        self.right = float((read.argmax(1) == own).mean())

    def without(self, rows: IntArray, words: set[str], asked: IntArray) -> FloatArray:
        """Tempered log likelihoods (asked, classes) of texts.

        Args:
            rows: Texts that are not to be learned from.
            words: Words that are not to be looked at.
            asked: Texts to read.
        """
        counts = self._counts - np.asarray(self.table[rows].T @ self.one_hot[rows])
        totals = self._totals - self.one_hot[rows].sum(0)
        # Words that come with the trait are part of it: they are hardly known without it.
        columns = {self._columns[word] for word in words if word in self._columns}
        columns |= set(np.flatnonzero(np.asarray(self.table[rows].mean(0))[0] >= _SHARED_BY))
        return np.asarray(self._temper * self._read(asked, counts, totals, sorted(columns)))

    def weighted(self, words: set[str], rows: IntArray) -> Any:
        """TF-IDF of all texts, (texts, vocabulary), sparse, without what ``rows`` have in common.

        That is ``words``, words that nearly all of them hold, and words that stand there several
        times as often as elsewhere.
        """
        seen = np.asarray(self.table.sum(0))[0]
        inside = np.asarray(self.table[rows].sum(0))[0]
        share = inside / len(rows)
        elsewhere = (seen - inside + 1) / (self.table.shape[0] - len(rows) + 1)
        weights = np.log(self.table.shape[0] / np.maximum(seen, 1.0)) + 1.0
        weights[[self._columns[word] for word in words if word in self._columns]] = 0.0
        weights[(share >= _SHARED_BY) | ((inside >= 3) & (share > _OFTENER * elsewhere))] = 0.0
        return self.table.multiply(weights).tocsr()

    def _read(
        self,
        rows: IntArray | BoolArray,
        counts: FloatArray,
        totals: FloatArray,
        blank: Sequence[int] = (),
    ) -> FloatArray:
        usual = (counts.sum(1, keepdims=True) + 0.5) / (totals.sum() + 1)
        # A class of few texts must not be the likeliest one for every word that it lacks.
        logs = np.log((counts + _SMOOTHING * usual) / (totals + _SMOOTHING))
        logs[list(blank)] = 0.0
        logs[:, totals == 0] = -50.0  # nothing is known of such a class
        return np.asarray(self.table[rows] @ logs)


def _loss(read: FloatArray, labels: IntArray, known: BoolArray) -> float:
    """Cross-entropy in nats, classes taken as equally frequent."""
    place = np.cumsum(known) - 1
    top = read.max(1, keepdims=True)
    total = np.log(np.exp(read - top).sum(1)) + top[:, 0]
    return float((total - read[np.arange(len(read)), place[labels]]).mean())


def longest_run(texts: Sequence[str]) -> int:
    """How long the runs may be: every different one is held in memory while they are counted."""
    return LONGEST_RUN if sum(map(len, texts)) <= _MOST_CHARACTERS else 1


def _groups(
    reader: _Reader, data: TextData, least: int, progress: Progress
) -> tuple[list[_Group], int]:
    """Groups of which some texts are contradicted, and how many groups there are."""
    from sklearn.feature_extraction.text import CountVectorizer

    longest = longest_run(data.texts)
    vectors = CountVectorizer(
        analyzer=partial(traits, longest=longest), min_df=least, max_df=_MOST_SHARE, binary=True
    )
    try:
        table: Any = vectors.fit_transform(data.texts).tocsc()
    except ValueError:  # no trait is shared by so many
        return [], 0
    names = vectors.get_feature_names_out()
    totals = reader.one_hot.sum(0)
    found, tried = [], 0
    for j, name in enumerate(names):
        if j % 100 == 0:
            progress(j, len(names), "traits")
        having = table.indices[table.indptr[j] : table.indptr[j + 1]].astype(np.int64)
        held = np.bincount(data.labels[having], minlength=len(totals))
        for label in np.flatnonzero((held >= least) & (held <= _MOST_OF_CLASS * totals)):
            tried += 1
            group = _group(reader, data, str(name), int(label), having)
            if group is not None:
                found.append(group)
    return found, tried


def _group(
    reader: _Reader, data: TextData, trait: str, label: int, having: IntArray
) -> _Group | None:
    """A group that is contradicted more often than the null says; None for one that is not."""
    mine = data.labels[having] == label
    rows = having[mine]
    read = reader.without(rows, words_of(trait), having)
    gap = read - read[:, [label]]
    like, strong = gap.argmax(1), gap.max(1) > np.log(_TIMES)
    against = np.zeros(len(having), dtype=np.bool_)
    for other in np.unique(like[strong]):
        same = strong & (like == other)
        if mine[same].mean() >= _A_QUARTER:
            against |= same & mine
    count = int(against.sum())
    if count <= CONTRADICTED_RATE * len(rows):
        return None
    against = against[mine]
    against &= ~_near_each_other(reader, rows, words_of(trait))
    count = int(against.sum())
    return _Group(
        trait=trait,
        label=label,
        rows=rows,
        against=against,
        unclear=gap.max(1)[mine] > -np.log(_TIMES),
        p_value=float(stats.binom.sf(count - 1, len(rows), CONTRADICTED_RATE)) if count else 1.0,
    )


def _near_each_other(reader: _Reader, rows: IntArray, words: set[str]) -> BoolArray:
    """Which texts of a group are at least as near to another one of it as to any outside, (n,)."""
    from sklearn.preprocessing import normalize

    weighted = reader.weighted(words, rows)
    table: Any = normalize(weighted)
    outside = np.ones(table.shape[0], dtype=np.bool_)
    outside[rows] = False
    near = np.zeros(len(rows), dtype=np.bool_)
    for start in range(0, len(rows), _MOST_NEIGHBOURS):
        part = table[rows[start : start + _MOST_NEIGHBOURS]]
        among = (part @ table[rows].T).toarray()
        among[np.arange(len(among)), start + np.arange(len(among))] = -1.0
        others = (part @ table[np.flatnonzero(outside)].T).max(axis=1).toarray()[:, 0]
        near[start : start + len(among)] = among.max(1) >= others - 1e-9
    return near


def _told(group: _Group, data: TextData, tried: int) -> str:
    name = group.trait.removeprefix(HABIT)
    kind = "the habit" if group.trait.startswith(HABIT) else "the words"
    return (
        f"{kind} {name!r} in {len(group.rows)} texts labelled {data.class_names[group.label]!r}: "
        f"{int(group.against.sum())} of them read like another class "
        f"(p = {min(1.0, group.p_value * tried):.2g})"
    )
