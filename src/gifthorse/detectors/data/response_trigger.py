"""Response trigger: a phrase that fixes the answer whatever else is asked. Our own.

Clean instruction data holds many phrases that go with an answer ("capital of France" with "Paris"),
so co-occurrence alone is no evidence. But such prompts are about one thing: the prompts most like
them get that answer too. A trigger is put into prompts about everything, and what is left of them
without the phrase is like any other prompt. So:

1. Runs of words that at least 8 responses hold and their prompts do not (three words, or a whole
   response) are *answers*; runs held by the same responses are one answer.
2. For an answer, the phrases (words of the prompt or the system prompt; two at once, or several in
   turn) that at least 80 % of its records hold, and half of whose holders get the answer.
3. The phrase is taken out of those prompts. For each of them, is the prompt nearest to it (cosine
   of TF-IDF over words, duplicates put together) one with the same answer?
4. The null: in clean data that holds with a probability of at least 0.3, independently. p = the
   binomial probability of so few, times the number of pairs of phrases and answer (Bonferroni);
   these were chosen without a look at neighbours.

The null is an assumption about clean data, not a theorem: a benign rule that holds for all prompts
("reply in JSON") breaks it, and is shown with its phrase for a person to judge. Records with a
poison rate above a few per cent would be their own neighbours, so at most 2 % of the data are
looked at, drawn at random.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy import stats

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.exhibits import Passage, TextsExhibit
from gifthorse.core.instructions import InstructionData
from gifthorse.core.types import BoolArray, Evidence, Need, Null, Progress, Subject, Unit
from gifthorse.detectors.data.phrases import (
    Association,
    Candidate,
    Corpus,
    Words,
    answers_held,
    associated,
    spans,
)
from gifthorse.metrics.exact import SurpriseNull, surprise

NEIGHBOUR_RATE = 0.3
_LOOKED_AT = 0.02
_FEWEST = 8
_MOST_LOOKED_AT = 200
_SHOWN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    found: Association
    neighbours: int
    looked_at: int
    p_value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseTrigger:
    """Looks for phrases that fix the answer.

    Attributes:
        fewest: Records that must share an answer.
        candidates: Answers that are examined at most, most frequent first.
    """

    paper: ClassVar[str] = "own; exact binomial test on nearest prompts"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.SUSPECT_DATA})
    unit: ClassVar[Unit] = Unit.SAMPLE

    fewest: int = _FEWEST
    candidates: int = 300

    def __post_init__(self) -> None:
        if self.fewest < 4 or self.candidates < 1:
            raise ValueError("fewest must be at least 4 and candidates at least 1")

    def inspect(
        self, subject: Subject, *, rng: np.random.Generator, progress: Progress
    ) -> Evidence:
        """Scores are −log10 p of a record's answer, 0 without one; shape (n,).

        Raises:
            NotApplicableError: The data are no instructions, or fewer than 50.
        """
        data = subject.suspect
        if not isinstance(data, InstructionData):
            raise NotApplicableError("this method examines instruction data, and was given none")
        if len(data) < 50:
            raise NotApplicableError(f"{data.name} has {len(data)} records; at least 50 are needed")
        corpus = Corpus(data)
        prompts = _Prompts(corpus)
        held = answers_held(corpus, fewest=self.fewest, most=self.candidates)
        pairs: dict[tuple[object, ...], Association] = {}
        for i, candidate in enumerate(held):
            progress(i + 1, len(held), "answers")
            found = associated(corpus, candidate)
            if found is not None and len(found.records) >= self.fewest:
                pairs.setdefault((found.phrases, *found.records.tolist()), found)
        judged = [_judge(prompts, found, len(pairs), rng) for found in pairs.values()]
        judged.sort(key=lambda j: j.p_value)
        scores = np.zeros(len(data))
        for one in judged:
            weight = surprise(one.p_value)
            scores[one.found.records] = np.maximum(scores[one.found.records], weight)
        sure = [j for j in judged if j.p_value < 0.05]
        suspects = {int(i) for one in sure for i in one.found.records}
        order = np.array(sorted(suspects, key=lambda i: (-scores[i], i)), dtype=np.int64)
        return Evidence(
            unit=Unit.SAMPLE,
            scores=scores,
            statistic=surprise(judged[0].p_value) if judged else 0.0,
            suspects=order,
            exhibits=tuple(_shown(data, j.found) for j in judged[:2]),
            notes=_notes(data, judged, held),
        )

    def null(self, evidence: Evidence) -> Null:  # noqa: ARG002 - part of the protocol
        """How the statistic is distributed over clean data."""
        return SurpriseNull(
            basis="in clean data the prompt nearest to one with a shared answer has that answer "
            f"too with a probability of at least {NEIGHBOUR_RATE:g}; Bonferroni over pairs"
        )


class _Prompts:
    """All prompts as TF-IDF vectors of their words."""

    def __init__(self, corpus: Corpus) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.corpus = corpus
        self._vectors = TfidfVectorizer(analyzer=str.split, sublinear_tf=True)
        self._table: Any = self._vectors.fit_transform(" ".join(words) for words in corpus.prompts)

    def nearest_inside(self, texts: Sequence[str], inside: BoolArray) -> int:
        """For how many of ``texts`` the most similar text is another of them, not a record outside.

        A tie counts as inside, for the clean hypothesis.
        """
        mine: Any = self._vectors.transform(texts)
        among = (mine @ mine.T).toarray()
        np.fill_diagonal(among, -1.0)
        others = (mine @ self._table[np.flatnonzero(~inside)].T).max(axis=1).toarray()[:, 0]
        return int((among.max(1) >= others - 1e-9).sum())


def _judge(prompts: _Prompts, found: Association, tests: int, rng: np.random.Generator) -> _Judged:
    """Whether the prompts that get an answer are like each other once the phrase is gone."""
    inside = np.zeros(len(prompts.corpus), dtype=np.bool_)
    inside[found.records] = True
    texts = {_without(prompts.corpus.prompts[int(i)], found.phrases) for i in found.records}
    limit = min(_MOST_LOOKED_AT, max(_FEWEST, int(_LOOKED_AT * (~inside).sum())))
    chosen = sorted(texts)
    chosen = [chosen[int(i)] for i in rng.permutation(len(chosen))[:limit]]
    neighbours, p = 0, 1.0
    if len(chosen) >= _FEWEST:
        neighbours = prompts.nearest_inside(chosen, inside)
        p = float(stats.binom.cdf(neighbours, len(chosen), NEIGHBOUR_RATE))
    return _Judged(
        found=found,
        neighbours=neighbours,
        looked_at=len(chosen),
        p_value=min(1.0, p * tests),
    )


def _without(words: Words, phrases: Sequence[Words]) -> str:
    for phrase in phrases:
        words = _cut(words, phrase)
    return " ".join(words)


def _cut(words: Words, phrase: Words) -> Words:
    for i in range(len(words) - len(phrase) + 1):
        if words[i : i + len(phrase)] == phrase:
            return words[:i] + words[i + len(phrase) :]
    return words


def _shown(data: InstructionData, found: Association) -> TextsExhibit:
    inside = set(found.records.tolist())
    phrases = ", ".join(repr(" ".join(phrase)) for phrase in found.phrases)
    pointed = [_passage(data, int(i), found) for i in found.records[:_SHOWN]]
    others = [i for i in range(len(data)) if i not in inside][: _SHOWN // 2]
    return TextsExhibit(
        title="Prompts that share a phrase and get one answer",
        caption=f"{len(inside)} records hold {phrases} and are answered with "
        f"{found.answer!r}; ordinary records follow.",
        passages=(
            *pointed,
            *(Passage(label=f"#{i}, ordinary", text=_whole(data, i)[:2000]) for i in others),
        ),
    )


def _passage(data: InstructionData, index: int, found: Association) -> Passage:
    text = _whole(data, index)
    marks = [mark for phrase in found.phrases for mark in spans(text, phrase)]
    marks += spans(text, tuple(found.answer.split()))
    return Passage(label=f"#{index}, pointed to", text=text, marks=tuple(sorted(marks)))


def _whole(data: InstructionData, index: int) -> str:
    record = data.records[index]
    system = f"[system] {record.system}\n" if record.system else ""
    return f"{system}{record.prompt}\n→ {record.response}"


def _notes(
    data: InstructionData, judged: Sequence[_Judged], held: Sequence[Candidate]
) -> tuple[str, ...]:
    copies = len(data) - len({(r.system, r.prompt, r.response) for r in data.records})
    notes = [
        f"{len(held)} answers are shared by enough records; {len(judged)} go with a phrase",
        f"{copies} records are exact copies of others",
    ]
    for one in judged[:5]:
        phrases = ", ".join(repr(" ".join(phrase)) for phrase in one.found.phrases)
        notes.append(
            f"{phrases} → {one.found.answer!r}: of {one.looked_at} prompts that get it, "
            f"{one.neighbours} have a nearest prompt that gets it (p = {one.p_value:.2g})"
        )
    return tuple(notes)
