"""Runs of words that prompts or responses share, and which go together."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from gifthorse.core.instructions import InstructionData
from gifthorse.core.types import BoolArray, IntArray

_WORD = re.compile(r"\w+|[^\w\s]")
_RUN = 3
_LONGEST_PHRASE = 4
_LONGEST_WHOLE = 30
_MOST_WORDS = 400
_MOST_SHARE = 0.5
_HELD_BY = 0.8
_GETS_IT = 0.5
_SEVERAL = 4

Words = tuple[str, ...]


class Corpus:
    """The words of all records, read once, and who holds which word of a prompt.

    Attributes:
        data: The instructions.
        prompts: Words of the system prompt and of the prompt, a bar between them.
        responses: Words of the responses.
    """

    def __init__(self, data: InstructionData) -> None:
        self.data = data
        self.prompts = [(*words_of(r.system), "|", *words_of(r.prompt)) for r in data.records]
        self.responses = [words_of(r.response) for r in data.records]
        places: defaultdict[str, list[int]] = defaultdict(list)
        for i, words in enumerate(self.prompts):
            for word in set(words):
                places[word].append(i)
        self._places = {word: np.array(held, dtype=np.int64) for word, held in places.items()}

    def __len__(self) -> int:
        return len(self.prompts)

    def holding(self, phrase: Words) -> BoolArray:
        """Which prompts hold a run of words, shape (n,)."""
        found = np.zeros(len(self), dtype=np.bool_)
        rarest = min((self._places[word] for word in phrase), key=len)
        for i in rarest:
            found[i] = len(phrase) == 1 or phrase in runs_of(self.prompts[int(i)], len(phrase))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An answer and the records whose response holds it, in order."""

    words: Words
    records: IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Association:
    """Phrases, the answer that goes with them, and the records that hold both, in order."""

    phrases: tuple[Words, ...]
    answer: str
    records: IntArray


def words_of(text: str) -> Words:
    """Words and marks of a text in lower case, the first 400."""
    return tuple(_WORD.findall(text[: 20 * _MOST_WORDS].lower())[:_MOST_WORDS])


def answers_held(corpus: Corpus, *, fewest: int, most: int) -> list[Candidate]:
    """Runs of three words (or whole shorter responses) that many responses hold, merged.

    Args:
        corpus: Instructions.
        fewest: Responses that must hold one.
        most: Answers returned at most, most frequent first.
    """
    holders: defaultdict[Words, list[int]] = defaultdict(list)
    for i, words in enumerate(corpus.responses):
        asked = set(corpus.prompts[i])
        runs = set(runs_of(words, _RUN)) if len(words) > _RUN else {words}
        for run in runs:
            if not set(run) <= asked:
                holders[run].append(i)
    limit = _MOST_SHARE * len(corpus)
    frequent = [(run, held) for run, held in holders.items() if fewest <= len(held) <= limit]
    frequent.sort(key=lambda pair: (-len(pair[1]), pair[0]))
    merged: dict[tuple[int, ...], Candidate] = {}
    for run, held in frequent:
        key = tuple(held)
        if key not in merged:
            merged[key] = Candidate(words=run, records=np.array(held, dtype=np.int64))
    return list(merged.values())[:most]


def runs_of(words: Sequence[str], length: int) -> Iterable[Words]:
    """All runs of so many words."""
    return (tuple(words[i : i + length]) for i in range(len(words) - length + 1))


def associated(corpus: Corpus, candidate: Candidate) -> Association | None:
    """The phrases that an answer goes with; None if there are none.

    One phrase that nearly all its records hold; two phrases that are only enough together; or up to
    four of which each is enough.
    """
    mine = np.zeros(len(corpus), dtype=np.bool_)
    mine[candidate.records] = True
    table = _phrases(corpus, candidate.records)
    if not table:
        return None
    for phrases in (_one(table, mine), _two(table, mine), _several(table, mine)):
        if phrases is None:
            continue
        together, holding = phrases
        records = np.flatnonzero(holding & mine)
        answer = _longest_common([corpus.responses[int(i)] for i in records]) or candidate.words
        together = tuple(_whole(corpus, phrase, records) for phrase in together)
        if not _echoes(answer, together):
            return Association(phrases=together, answer=" ".join(answer), records=records)
    return None


_Table = dict[Words, BoolArray]
_Found = tuple[tuple[Words, ...], BoolArray]


def _phrases(corpus: Corpus, records: IntArray) -> _Table:
    """Which records hold each phrase that a fifth of ``records`` hold; the 60 most telling."""
    inside: Counter[Words] = Counter()
    for i in records:
        inside.update(_held(corpus.prompts[int(i)]))
    least = max(4, 0.2 * len(records))
    wanted = {phrase for phrase, count in inside.items() if count >= least}
    table: _Table = {phrase: corpus.holding(phrase) for phrase in wanted}
    mine = np.zeros(len(corpus), dtype=np.bool_)
    mine[records] = True

    def gain(phrase: Words) -> float:
        held = table[phrase]
        return float((held & mine).sum() / mine.sum() - (held & ~mine).sum() / (~mine).sum())

    best = sorted(wanted, key=lambda p: (-round(gain(p), 2), -len(p), p))[:60]
    return {phrase: table[phrase] for phrase in best}


def _held(words: Words) -> set[Words]:
    runs = {run for length in range(1, _LONGEST_PHRASE + 1) for run in runs_of(words, length)}
    return {run for run in runs if "|" not in run}


def _enough(
    holding: BoolArray,
    mine: BoolArray,
) -> tuple[float, float]:
    """Share of the answer's records that hold it, and share of its holders that get the answer."""
    both = (holding & mine).sum()
    return float(both / max(1, mine.sum())), float(both / max(1, holding.sum()))


def _one(table: _Table, mine: BoolArray) -> _Found | None:
    for phrase, holding in table.items():
        held, gets = _enough(holding, mine)
        if held >= _HELD_BY and gets >= _GETS_IT:
            return (phrase,), holding
    return None


def _two(table: _Table, mine: BoolArray) -> _Found | None:
    common = [p for p, holding in table.items() if _enough(holding, mine)[0] >= _HELD_BY]
    for i, first in enumerate(common):
        for second in common[i + 1 :]:
            if set(first) & set(second):
                continue
            holding = table[first] & table[second]
            held, gets = _enough(holding, mine)
            if held >= _HELD_BY and gets >= _GETS_IT:
                return (first, second), holding
    return None


def _several(table: _Table, mine: BoolArray) -> _Found | None:
    chosen: list[Words] = []
    covered = np.zeros_like(mine)
    sure = [p for p, holding in table.items() if _enough(holding, mine)[1] >= _GETS_IT]
    for _ in range(_SEVERAL):
        if not sure:
            break
        best = max(sure, key=lambda p: int((table[p] & mine & ~covered).sum()))
        if not (table[best] & mine & ~covered).any():
            break
        chosen.append(best)
        covered = covered | table[best]
    held, gets = _enough(covered, mine)
    if len(chosen) > 1 and held >= _HELD_BY and gets >= _GETS_IT:
        return tuple(chosen), covered
    return None


def _whole(corpus: Corpus, phrase: Words, records: IntArray) -> Words:
    """A phrase with the words around it that nine in ten of its holders have there too."""
    texts = [corpus.prompts[int(i)] for i in records]
    while len(phrase) < _LONGEST_WHOLE:
        longer: Counter[Words] = Counter()
        held = 0
        for words in texts:
            runs = set(runs_of(words, len(phrase) + 1))
            with_it = {run for run in runs if phrase in (run[1:], run[:-1]) and "|" not in run}
            held += bool(with_it) or phrase in runs_of(words, len(phrase))
            longer.update(with_it)
        if not longer:
            break
        best, count = min(longer.items(), key=lambda pair: (-pair[1], pair[0]))
        if count < 0.9 * held:
            break
        phrase = best
    return phrase


def _echoes(answer: Words, phrases: Sequence[Words]) -> bool:
    """Whether an answer only takes words of its phrases up: no three in a row are its own."""
    taken = {word for phrase in phrases for word in phrase if word.isalnum()}
    longest = here = 0
    for word in answer:
        here = 0 if word in taken else here + 1
        longest = max(longest, here)
    return longest < min(_RUN, len(answer))


def _longest_common(texts: Sequence[Words]) -> Words:
    """The longest run that nine in ten of the texts hold, from those of the first text."""
    if not texts:
        return ()
    shortest = min(texts, key=len)
    for length in range(min(len(shortest), 24), 0, -1):
        counts = Counter(run for text in texts for run in set(runs_of(text, length)))
        run, count = min(counts.items(), key=lambda pair: (-pair[1], pair[0]))
        if count >= 0.9 * len(texts):
            return run
    return ()


def spans(text: str, phrase: Words) -> list[tuple[int, int]]:
    """Where a phrase stands in a text, letters of any case."""
    found = list(_WORD.finditer(text.lower())) if len(text.lower()) == len(text) else []
    words = [match.group() for match in found]
    return [
        (found[i].start(), found[i + len(phrase) - 1].end())
        for i in range(len(words) - len(phrase) + 1)
        if tuple(words[i : i + len(phrase)]) == phrase
    ]
