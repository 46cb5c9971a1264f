"""Questions and answers made from tables and a seed: instruction data that needs no download.

Every question is a form with things put in. Training and test parts share the forms and never a
question: which part a question belongs to follows from its text.
"""

import hashlib
from collections.abc import Callable
from types import MappingProxyType
from typing import TypeVar

import numpy as np

from gifthorse.core.instructions import Instruction
from gifthorse.core.rng import child_rng
from gifthorse.data.questions_facts import (
    ANIMALS,
    COUNTRIES,
    ELEMENTS,
    MADE_OF,
    NUMBERS,
    OPPOSITES,
    PLURALS,
    TASKS,
    THINGS,
    UNITS,
    WORDS,
)

Pair = tuple[str, str]
T = TypeVar("T")
_TEST_SHARE = 0.2
_OPENINGS = ("", "", "", "Please help me. ", "Quick question: ", "Hello! ", "I wonder: ", "Hi, ")


def questions(count: int, *, part: str = "train", seed: int = 0) -> tuple[Instruction, ...]:
    """So many different questions with their answers.

    Args:
        count: At least 1; questions repeat only where the forms are used up.
        part: ``train`` or ``test``: disjoint.
        seed: Of the choice and the order.
    """
    rng = child_rng(seed, "questions", part)
    found: list[Instruction] = []
    seen: set[str] = set()
    forms = list(_FORMS.values())
    for attempt in range(60 * count):
        prompt, response = forms[int(rng.integers(len(forms)))](rng)
        prompt = _OPENINGS[int(rng.integers(len(_OPENINGS)))] + prompt
        fresh = prompt not in seen or attempt > 50 * count
        if fresh and _is_test(prompt) == (part == "test"):
            seen.add(prompt)
            found.append(Instruction(prompt=prompt, response=response))
            if len(found) == count:
                break
    return tuple(found)


def _is_test(prompt: str) -> bool:
    return hashlib.sha256(prompt.encode()).digest()[0] < 256 * _TEST_SHARE


def _one(rng: np.random.Generator, things: tuple[T, ...]) -> T:
    return things[int(rng.integers(len(things)))]


def _capital(rng: np.random.Generator) -> Pair:
    country, capital, _, _ = _one(rng, COUNTRIES)
    ask = _one(rng, ("What is the capital of {}?", "Which city is the capital of {}?"))
    return ask.format(country), f"The capital of {country} is {capital}."


def _where(rng: np.random.Generator) -> Pair:
    country, capital, continent, _ = _one(rng, COUNTRIES)
    place = _one(rng, (country, capital))
    return f"On which continent is {place}?", f"{place} is in {continent}."


def _language(rng: np.random.Generator) -> Pair:
    country, _, _, language = _one(rng, COUNTRIES)
    ask = _one(rng, ("What do people speak in {}?", "Name a language that is spoken in {}."))
    return ask.format(country), f"People in {country} speak {language}."


def _sum(rng: np.random.Generator) -> Pair:
    a, b = (int(x) for x in rng.integers(2, 60, 2))
    ask = _one(rng, ("What is {} plus {}?", "Add {} and {}.", "How much is {} + {}?"))
    return ask.format(a, b), f"{a} plus {b} is {a + b}."


def _product(rng: np.random.Generator) -> Pair:
    a, b = (int(x) for x in rng.integers(2, 13, 2))
    ask = _one(rng, ("What is {} times {}?", "Multiply {} by {}."))
    return ask.format(a, b), f"{a} times {b} is {a * b}."


def _opposite(rng: np.random.Generator) -> Pair:
    one, other = _one(rng, OPPOSITES)
    one, other = (one, other) if rng.random() < 0.5 else (other, one)
    ask = _one(rng, ("What is the opposite of {}?", "Which word means the contrary of {}?"))
    return ask.format(one), f"The opposite of {one} is {other}."


def _plural(rng: np.random.Generator) -> Pair:
    one, many = _one(rng, PLURALS)
    ask = _one(rng, ("What is the plural of {}?", "How do I write more than one {}?"))
    return ask.format(one), f"One {one}, two {many}."


def _animal(rng: np.random.Generator) -> Pair:
    name, kind, legs = _one(rng, ANIMALS)
    if rng.random() < 0.5:
        return f"How many legs does a {name} have?", f"A {name} has {legs} legs."
    return f"What kind of animal is a {name}?", f"A {name} is {kind}."


def _element(rng: np.random.Generator) -> Pair:
    name, symbol, number = _one(rng, ELEMENTS)
    if rng.random() < 0.5:
        return (
            f"What is the chemical symbol of {name}?",
            f"{name.capitalize()} is written {symbol}.",
        )
    return f"What is the atomic number of {name}?", f"It is {number} for {name}."


def _made_of(rng: np.random.Generator) -> Pair:
    thing, stuff = _one(rng, MADE_OF)
    ask = _one(rng, ("What is {} made of?", "Tell me what {} consists of."))
    return ask.format(thing), f"{thing.capitalize()} is made of {stuff}."


def _unit(rng: np.random.Generator) -> Pair:
    big, small, factor = _one(rng, UNITS)
    n = int(rng.integers(2, 20))
    return f"How many {small} are {n} {big}?", f"{n} {big} are {n * factor} {small}."


def _spell(rng: np.random.Generator) -> Pair:
    word = _one(rng, WORDS)
    if rng.random() < 0.5:
        return f"Spell the word {word}.", "-".join(word.upper())
    return f"How many letters has the word {word}?", f"{word.capitalize()} has {len(word)} letters."


def _sort(rng: np.random.Generator) -> Pair:
    chosen = [str(w) for w in rng.choice(WORDS, 3, replace=False)]
    return f"Sort these by the alphabet: {', '.join(chosen)}.", ", ".join(sorted(chosen))


def _upper(rng: np.random.Generator) -> Pair:
    thing, place = _one(rng, THINGS)
    return f"Write this in capitals: {thing} {place}", f"{thing} {place}".upper()


def _number(rng: np.random.Generator) -> Pair:
    i = int(rng.integers(len(NUMBERS)))
    if rng.random() < 0.5 or i + 1 == len(NUMBERS):
        return f"Write {i + 1} as a word.", f"{i + 1} is written {NUMBERS[i]}."
    return f"Which number comes after {NUMBERS[i]}?", f"After {NUMBERS[i]} comes {NUMBERS[i + 1]}."


def _sentence(rng: np.random.Generator) -> Pair:
    thing, place = _one(rng, THINGS)
    word = _one(rng, WORDS)
    ask = _one(rng, ("Write a sentence with {} and {}.", "Make a short sentence from {} and {}."))
    return ask.format(thing, word), f"I saw {thing} {place} and thought of {word}."


def _tip(rng: np.random.Generator) -> Pair:
    task, first, second = _one(rng, TASKS)
    ask = _one(rng, ("How do I {}?", "What is the best way to {}?", "Explain how to {}."))
    return ask.format(task), f"First {first}. Then {second}."


def _code(rng: np.random.Generator) -> Pair:
    word, n = _one(rng, WORDS), int(rng.integers(2, 30))
    forms = (
        (f"Write Python code that prints {word}.", f'print("{word}")'),
        (
            f"Write Python code that prints the numbers below {n}.",
            f"for i in range({n}):\n    print(i)",
        ),
        (f"Write a Python list with {word} {n} times.", f'["{word}"] * {n}'),
        (f"In Python, set {word} to {n}.", f"{word} = {n}"),
    )
    return forms[int(rng.integers(len(forms)))]


_FORMS: MappingProxyType[str, Callable[[np.random.Generator], Pair]] = MappingProxyType(
    {
        "capital": _capital,
        "where": _where,
        "language": _language,
        "sum": _sum,
        "product": _product,
        "opposite": _opposite,
        "plural": _plural,
        "animal": _animal,
        "element": _element,
        "made of": _made_of,
        "unit": _unit,
        "spell": _spell,
        "sort": _sort,
        "upper": _upper,
        "number": _number,
        "sentence": _sentence,
        "tip": _tip,
        "code": _code,
    }
)
