"""Which words suspect texts share and ordinary ones do not: what a reader should look at."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from gifthorse.core.exhibits import Passage, TextsExhibit
from gifthorse.core.texts import TextData
from gifthorse.core.types import IntArray

_SHOWN = 8
_MOST_READ = 2000
_LONGEST = 3
_LEAST_SHARE = 0.3
_WORD = re.compile(r"\w+|[^\w\s]+|\s{2,}")


def texts_shown(data: TextData, suspects: IntArray, ordinary: IntArray) -> TextsExhibit:
    """The worst suspects with the words that they share marked, and ordinary texts of the class.

    Args:
        data: Holds both.
        suspects: Indices, worst first, at least one.
        ordinary: Indices of other samples of the same class.
    """
    inside = [data.texts[int(i)] for i in suspects[:_MOST_READ]]
    outside = [data.texts[int(i)] for i in ordinary[:_MOST_READ]]
    shared = shared_words(inside, outside)
    pointed = tuple(
        Passage(label=f"#{i}, pointed to", text=data.texts[int(i)], marks=_marks(i, data, shared))
        for i in suspects[:_SHOWN]
    )
    others = tuple(
        Passage(label=f"#{i}, ordinary", text=data.texts[int(i)]) for i in ordinary[:_SHOWN]
    )
    said = ", ".join(repr(" ".join(words)) for words in shared) or "no words stand out"
    return TextsExhibit(
        title="Samples pointed to, and ordinary ones of the same class",
        caption=f"The first {len(pointed)} are pointed to. Shared by them: {said}.",
        passages=pointed + others,
    )


def shared_words(inside: Sequence[str], outside: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Up to three runs of one to three words that many of ``inside`` hold and few of ``outside``.

    A run counts by the difference of the shares of texts that hold it; longer runs win ties.
    """
    held, elsewhere = _shares(inside), _shares(outside)
    gain = {run: share - elsewhere.get(run, 0.0) for run, share in held.items()}
    best = sorted((run for run in gain if gain[run] >= _LEAST_SHARE), key=_order(gain))
    kept: list[tuple[str, ...]] = []
    for run in best:
        if not any(_within(run, other) for other in kept):
            kept.append(run)
    return tuple(kept[:3])


def _order(
    gain: dict[tuple[str, ...], float],
) -> Callable[[tuple[str, ...]], tuple[float, int, tuple[str, ...]]]:
    return lambda run: (-round(gain[run], 2), -len(run), run)


def _within(run: tuple[str, ...], other: tuple[str, ...]) -> bool:
    return any(other[i : i + len(run)] == run for i in range(len(other) - len(run) + 1))


def _shares(texts: Sequence[str]) -> dict[tuple[str, ...], float]:
    counts: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        counts.update(set(_runs(_WORD.findall(text))))
    return {run: count / len(texts) for run, count in counts.items()}


def _runs(words: Sequence[str]) -> Iterable[tuple[str, ...]]:
    for length in range(1, _LONGEST + 1):
        for i in range(len(words) - length + 1):
            yield tuple(words[i : i + length])


def _marks(
    index: int, data: TextData, shared: tuple[tuple[str, ...], ...]
) -> tuple[tuple[int, int], ...]:
    """Where the shared runs stand in a text."""
    text = data.texts[int(index)]
    places = list(_WORD.finditer(text))
    words = [place.group() for place in places]
    found = [
        (places[i].start(), places[i + len(run) - 1].end())
        for run in shared
        for i in range(len(words) - len(run) + 1)
        if tuple(words[i : i + len(run)]) == run
    ]
    return tuple(sorted(found))
