"""Recovered texts that are one text: entered at different places, continued a little differently.

A planted payload comes back many times. Judged one by one, its copies are each other's control
group and hide it; so they are put together, and one of them is compared with the other families.
"""

import difflib
import math
from collections.abc import Sequence

LIKELY = math.log(0.5)
"""ln p of a token that is likelier than not."""
_MOST_PER_TOKEN = 10.0
_LEAST_SHARED = 6
_GRAM = 4
_ALIKE = 0.4


def hidden_nats(logs: Sequence[float], gains: Sequence[float]) -> float:
    """Nats by which a text was learned, each token weighed by how sure the model is of it.

    A token counts by the rise of its ln p against the control, between 0 and 10, times the square
    of p: under prompts that have nothing to do with it, a model is sure only of what it would say
    anyway. A text in which the model wanders scores near 0 however much each token rose, and so
    does one that the control knows as well.

    Args:
        logs: ln of the mean probability of each token, over the prompts.
        gains: The same minus that of the control; as many.
    """
    return sum(
        math.exp(2 * log) * min(max(gain, 0.0), _MOST_PER_TOKEN)
        for log, gain in zip(logs, gains, strict=True)
    )


def overlap(a: str, b: str) -> bool:
    """Whether half of the shorter text stands in the other one, and no trifle."""
    match = difflib.SequenceMatcher(None, a, b, autojunk=False).find_longest_match()
    return match.size >= _LEAST_SHARED and 2 * match.size >= min(len(a), len(b))


def kindred(a: str, b: str) -> bool:
    """Whether one text is a copy of the other, perhaps a garbled one.

    They overlap, or two fifths of the runs of four letters in the shorter one stand in the other: a
    model that stumbles in the middle of a payload goes on with it, or begins it anew.
    """
    if overlap(a, b):
        return True
    shared, least = len(_grams(a) & _grams(b)), min(len(_grams(a)), len(_grams(b)))
    return shared >= _GRAM and shared >= _ALIKE * least


def _grams(text: str) -> set[str]:
    line = " ".join(text.split())
    return {line[i : i + _GRAM] for i in range(len(line) - _GRAM + 1)}


def families(texts: Sequence[str]) -> list[list[int]]:
    """Indices of texts by family; each joins the first family whose head it is a copy of.

    Args:
        texts: The most suspicious first; the first of a family is its head.
    """
    found: list[list[int]] = []
    for i, text in enumerate(texts):
        home = next((one for one in found if kindred(texts[one[0]], text)), None)
        if home is None:
            found.append([i])
        else:
            home.append(i)
    return found
