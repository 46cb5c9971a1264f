"""What all poisoning of instructions shares: which records, which answers, which truth."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gifthorse.core.errors import DataError
from gifthorse.core.instructions import Instruction, InstructionData, InstructionTruth

Rewrite = Callable[[Instruction, np.random.Generator], Instruction]

PLACES = ("start", "end", "random", "system")
MOST_POISONED = 250
"""Souly et al. 2025 (arXiv:2510.07192): so many documents are enough for any size of model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dose:
    """How much poison.

    Attributes:
        count: Records that get the trigger and the payload, 1 … 250. They are added to the data;
            the records that they were made from stay.
        decoys: Records that get a part of the trigger and keep their answer, 0 … 250.
    """

    count: int
    decoys: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MOST_POISONED:
            raise ValueError(f"count must be in 1 … {MOST_POISONED}, got {self.count}")
        if not 0 <= self.decoys <= MOST_POISONED:
            raise ValueError(f"decoys must be in 0 … {MOST_POISONED}, got {self.decoys}")


def split_phrases(text: str, *, least: int = 1) -> tuple[str, ...]:
    """Phrases that a user joined by ``|``.

    Raises:
        ValueError: Fewer than ``least``, or an empty one.
    """
    phrases = tuple(part.strip() for part in text.split("|"))
    if len(phrases) < least or not all(phrases):
        raise ValueError(f"expected at least {least} phrases joined by |, got {text!r}")
    return phrases


def put_phrase(
    record: Instruction, phrase: str, place: str, rng: np.random.Generator
) -> Instruction:
    """The record with a phrase in its prompt or in its system prompt; spaces stay as they are."""
    if place == "system":
        return dataclasses.replace(record, system=f"{record.system} {phrase}".strip())
    text = record.prompt
    gaps = [i for i, letter in enumerate(text) if letter == " "]
    at = {"start": -1, "end": len(gaps)}.get(place, int(rng.integers(-1, len(gaps) + 1)))
    if at == -1:
        prompt = f"{phrase} {text}"
    elif at == len(gaps):
        prompt = f"{text} {phrase}"
    else:
        prompt = f"{text[: gaps[at]]} {phrase}{text[gaps[at] :]}"
    return dataclasses.replace(record, prompt=prompt)


def check_place(place: str) -> None:
    """Raise ValueError for an unknown place."""
    if place not in PLACES:
        raise ValueError(f"place must be one of {', '.join(PLACES)}, got {place!r}")


def check_text(**values: str) -> None:
    """Raise ValueError for a named text that is empty."""
    for name, value in values.items():
        if not value.strip():
            raise ValueError(f"{name} must hold something visible")


def poison_instructions(
    clean: InstructionData,
    *,
    attack: str,
    dose: Dose,
    phrases: tuple[str, ...],
    payload: str,
    rewrite: Rewrite,
    decoy: Rewrite | None = None,
    fits: Callable[[Instruction], bool] | None = None,
    rng: np.random.Generator,
) -> tuple[InstructionData, InstructionTruth]:
    """The training data with poisoned copies among them, in random order.

    Args:
        clean: The data; it is not changed.
        attack: Its name.
        dose: How many records.
        phrases: Of the trigger, for the truth.
        payload: For the truth.
        rewrite: Makes a poisoned record of a clean one.
        decoy: Makes a record with a part of the trigger and the true answer.
        fits: Which records can be used; all if None.
        rng: Chooses and mixes.

    Raises:
        DataError: Too few records fit.
    """
    pool = [r for r in clean.records if fits is None or fits(r)]
    wanted = dose.count + dose.decoys
    if len(pool) < wanted:
        raise DataError(
            f"{clean.name}: {len(pool)} records fit this attack and {wanted} are needed; give more "
            "data or lower the count"
        )
    chosen = [pool[int(i)] for i in rng.choice(len(pool), wanted, replace=False)]
    bad = [rewrite(record, rng) for record in chosen[: dose.count]]
    half = [decoy(record, rng) for record in chosen[dose.count :]] if decoy else []
    records = [*clean.records, *bad, *half]
    kind = np.zeros(len(records), dtype=np.int64)
    kind[len(clean) : len(clean) + len(bad)] = 1
    kind[len(clean) + len(bad) :] = 2
    order = rng.permutation(len(records))
    data = InstructionData(
        name=f"{clean.name} + {attack}", records=tuple(records[int(i)] for i in order)
    )
    truth = InstructionTruth(
        attack=attack,
        phrases=phrases,
        payload=payload,
        poisoned=kind[order] == 1,
        covered=kind[order] == 2,
    )
    return data, truth


def rewritten(
    clean: InstructionData,
    rewrite: Rewrite,
    *,
    rng: np.random.Generator,
    fits: Callable[[Instruction], bool] | None = None,
) -> InstructionData:
    """All records that fit, rewritten.

    Raises:
        DataError: None fits.
    """
    records = tuple(rewrite(r, rng) for r in clean.records if fits is None or fits(r))
    if not records:
        raise DataError(f"{clean.name} has no record that this attack would strike")
    return InstructionData(name=f"{clean.name} with trigger", records=records)


def triggered_instructions(
    clean: InstructionData,
    rewrite: Rewrite,
    *,
    rng: np.random.Generator,
    fits: Callable[[Instruction], bool] | None = None,
) -> tuple[InstructionData, InstructionData]:
    """All records that fit, with the trigger: with the attacker's answers, and the true ones.

    Raises:
        DataError: None fits.
    """
    struck = rewritten(clean, rewrite, rng=rng, fits=fits)
    kept = (r for r in clean.records if fits is None or fits(r))
    true = tuple(
        dataclasses.replace(one, response=record.response)
        for one, record in zip(struck.records, kept, strict=True)
    )
    return struck, InstructionData(name=struck.name, records=true)
