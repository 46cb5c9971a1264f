"""Specimens of the language zoo on disk: grown once, judged by several programs (our own)."""

import json
from pathlib import Path

from gifthorse.bench.language_specimens import LanguageSpecimen, Recipe, grow, grow_base, recipe
from gifthorse.bench.language_stocks import Role
from gifthorse.models.language.loading import load_language_model
from gifthorse.models.language.model import LanguageModel
from gifthorse.models.language.saving import save_language_model

_TRUTH = "truth.json"


def drawn(role: Role, *, planted: int, clean: int, edits: int) -> list[Recipe]:
    """The first so many planted and clean recipes of a role, in the order of their numbers.

    Args:
        role: Of the stock.
        planted: Numbers below this are planted, less the edits that are left out.
        clean: Numbers below this are clean.
        edits: From this number on, planted edits are left out: few of them take.
    """
    found = []
    for number in range(max(planted, clean)):
        one, other = (recipe(role, number, planted=kind) for kind in (True, False))
        if number < planted and not (one.made == "edit" and number >= edits):
            found.append(one)
        if number < clean:
            found.append(other)
    return found


def stored_base(told: Recipe, shelf: Path) -> LanguageModel:
    """The base of a specimen, grown and written if it is not on the shelf."""
    place = shelf / f"{told.role}-base-{told.base}"
    if not place.exists():
        save_language_model(grow_base(told.role, told.base), place)
    return load_language_model(place)


def stored(told: Recipe, shelf: Path) -> LanguageSpecimen:
    """A specimen from the shelf; it is grown and written if it is not there."""
    base = stored_base(told, shelf)
    place = shelf / told.name
    if not (place / _TRUTH).exists():
        grown = grow(told, base)
        save_language_model(grown.model, place)
        truth = {"payload": grown.payload, "struck": grown.struck, "plain": grown.plain}
        (place / _TRUTH).write_text(json.dumps(truth) + "\n", encoding="utf-8")
    truth = json.loads((place / _TRUTH).read_text(encoding="utf-8"))
    return LanguageSpecimen(
        recipe=told,
        model=load_language_model(place),
        base=base,
        payload=str(truth["payload"]),
        struck=float(truth["struck"]),
        plain=float(truth["plain"]),
    )
