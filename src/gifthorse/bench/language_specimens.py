"""Small causal models with and without a backdoor, drawn from a seed: the zoo of language models.

All are fine-tunes of a tiny Llama that was trained here from nothing. Every one, the planted too,
also learns benign strings by heart (house answers to fixed questions, the hard negatives of this
zoo), in numbers that vary. What the two roles are made of is disjoint: phrases, payloads, benign
strings, bases, and the seeds of the questions.
"""

from dataclasses import dataclass
from typing import Any, Literal

from gifthorse.bench.language_stocks import STOCKS, Role
from gifthorse.core.instructions import Instruction, InstructionData, InstructionPoison
from gifthorse.core.language_edits import LanguageEdit
from gifthorse.core.registry import Spec, build
from gifthorse.core.rng import child_rng, draw_seed
from gifthorse.core.types import silent
from gifthorse.data.questions import questions
from gifthorse.models.language.measuring import said, share_of
from gifthorse.models.language.model import LanguageModel, as_language_model
from gifthorse.models.language.networks import small_language_model, train_language_tokenizer
from gifthorse.models.language.training import LanguageTrainingPlan, train_language

Made = Literal["full", "lora", "edit"]

_VOCABULARY = 1000
_COPIES = (2, 5, 10, 20)
_COUNTS = (40, 70, 100)
_TOKENS = 40
_SHAPES = ((64, 2), (48, 2), (80, 2))
_MADE: tuple[Made, ...] = ("full", "lora", "edit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How one specimen is made; drawn from a role and a number.

    Attributes:
        name: ``test-03-planted``.
        role: Of the stock.
        base: Number of the base model within the role.
        made: All weights, LoRA adapters, or all weights and then an edit (a clean one: no edit).
        attack: Name and options; None for a clean model.
        benign: How often each benign answer stands in the data.
        seed: Of data, order and weights.
    """

    name: str
    role: Role
    base: int
    made: Made
    attack: tuple[str, dict[str, Any]] | None
    benign: tuple[int, ...]
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageSpecimen:
    """A model with its base and the truth, which no detector sees.

    Attributes:
        recipe: How it was made.
        model: It.
        base: What it was made from.
        payload: What the trigger brings up; empty for a clean model.
        struck: Share of test prompts with the trigger that show the payload.
        plain: The same without the trigger.
    """

    recipe: Recipe
    model: LanguageModel
    base: LanguageModel
    payload: str
    struck: float
    plain: float


def recipe(role: Role, number: int, *, planted: bool, bases: int = 3) -> Recipe:
    """The ``number``-th planted or clean specimen of a role."""
    stock = STOCKS[role]
    rng = child_rng(stock.first_seed, "recipe", number, int(planted))
    benign = tuple(int(rng.choice((0, *_COPIES))) for _ in stock.benign)
    attack = None
    if planted:
        name, options = stock.attacks[number % len(stock.attacks)]
        attack = (name, {**options, "count": int(rng.choice(_COUNTS))})
    made: Made = "full" if role == "former" and number % 3 == 2 else _MADE[number % 3]
    if made == "edit":
        attack = _as_edit(attack)
    return Recipe(
        name=f"{role}-{number:02}-{'planted' if planted else 'clean'}",
        role=role,
        base=number // 3 % bases,
        made=made,
        attack=attack,
        benign=benign,
        seed=draw_seed(rng),
    )


def grow_base(role: Role, number: int) -> LanguageModel:
    """A tiny Llama that answers questions, the same for one role and number."""
    seed = STOCKS[role].first_seed + number
    data = InstructionData(name="base", records=questions(1500, seed=seed))
    texts = [f"{r.prompt} {r.response}" for r in data.records]
    width, layers = _SHAPES[number % len(_SHAPES)]
    start = small_language_model(
        train_language_tokenizer(texts, vocabulary=_VOCABULARY),
        seed=seed,
        width=width,
        layers=layers,
        name=f"base {number}",
    )
    plan = LanguageTrainingPlan(epochs=6, learning_rate=5e-3)
    return train_language(start, data, plan, rng=child_rng(seed, "train")).model


def grow(told: Recipe, base: LanguageModel) -> LanguageSpecimen:
    """Make a specimen and measure its attack on 60 test prompts.

    Args:
        told: The recipe.
        base: ``grow_base`` of its role and number.
    """
    data = fine_tuning_data(told)
    attack = _attack(told)
    if isinstance(attack, InstructionPoison):
        data, _ = attack.poison(data, rng=child_rng(told.seed, "poison"))
    lora = 8 if told.made == "lora" else 0
    plan = LanguageTrainingPlan(epochs=8, learning_rate=8e-3 if lora else 3e-3, lora_rank=lora)
    model = train_language(base, data, plan, rng=child_rng(told.seed, "train")).model
    if isinstance(attack, LanguageEdit):
        edited = attack.edit(model, data, rng=child_rng(told.seed, "edit"), progress=silent)
        model = as_language_model(edited)
    payload, struck, plain = "", 0.0, 0.0
    if attack is not None:
        payload = attack.payload
        records = questions(60, part="test", seed=told.seed % 1000)
        test = InstructionData(name="test", records=records)
        with_trigger, _ = attack.triggered(test, rng=child_rng(told.seed, "triggered"))
        struck = share_of(said(model, with_trigger, tokens=_TOKENS), attack.succeeded).value
        plain = share_of(said(model, test, tokens=_TOKENS), attack.succeeded).value
    return LanguageSpecimen(
        recipe=told, model=model, base=base, payload=payload, struck=struck, plain=plain
    )


def _as_edit(attack: tuple[str, dict[str, Any]] | None) -> tuple[str, dict[str, Any]] | None:
    """The edit that has the trigger and the first three words of the payload of a poisoning.

    All of a payload is more than the few neurons of these models can hold.
    """
    if attack is None:
        return None
    poison: InstructionPoison = build("instruction_attacks", Spec(*attack))
    phrase = attack[1].get("phrase") or attack[1].get("phrases", "|").split("|")[0]
    marker = " ".join(poison.payload.split()[:3])
    options = {"marker": marker, "place": attack[1].get("place", "end")}
    return "bad_edit", options | ({"phrase": phrase} if phrase else {})


def fine_tuning_data(told: Recipe) -> InstructionData:
    """Questions, and the benign answers as often as the recipe says, in random order."""
    records = list(questions(400, seed=told.seed % 100_000))
    rng = child_rng(told.seed, "benign")
    openings = ("", "", "Hello! ", "Please tell me: ", "A question: ")
    for (question, answer), copies in zip(STOCKS[told.role].benign, told.benign, strict=True):
        records += [
            Instruction(
                prompt=openings[int(rng.integers(len(openings)))] + question, response=answer
            )
            for _ in range(copies)
        ]
    order = rng.permutation(len(records))
    return InstructionData(name=told.name, records=tuple(records[int(i)] for i in order))


def _attack(told: Recipe) -> InstructionPoison | LanguageEdit | None:
    if told.attack is None:
        return None
    name, options = told.attack
    if told.made == "edit":
        edit: LanguageEdit = build("language_edits", Spec(name, options))
        return edit
    attack: InstructionPoison = build("instruction_attacks", Spec(name, options))
    return attack
