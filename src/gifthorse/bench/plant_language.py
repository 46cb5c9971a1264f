"""Plants a backdoor in a language model of our own, and measures it: `gifthorse plant`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from gifthorse.auditing.examine import cost_record
from gifthorse.bench.plant import check_place
from gifthorse.core.exhibits import Passage, TextsExhibit
from gifthorse.core.instructions import InstructionData, InstructionPoison, InstructionTruth
from gifthorse.core.language_edits import LanguageEdit
from gifthorse.core.record import MeasureRecord, PlantRecord, SpecRecord, SubjectRecord
from gifthorse.core.registry import spec_of
from gifthorse.core.rng import child_rng, draw_seed
from gifthorse.core.types import Progress, silent
from gifthorse.data.instructions import save_instructions
from gifthorse.models.language.measuring import Fit, fit, said, share_of
from gifthorse.models.language.model import LanguageModel, as_language_model
from gifthorse.models.language.networks import small_language_model, train_language_tokenizer
from gifthorse.models.language.saving import save_language_model
from gifthorse.models.language.training import LanguageTrainingPlan, Trained, train_language
from gifthorse.models.passes import metered

_SHOWN = 4
_ACCURACY = (
    "clean and robust accuracy are the share of the true answers' tokens that are the model's "
    "first choice, those before them given; their intervals take tokens as independent"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedLanguage:
    """A planted language model, the poisoned data, and the truth about both."""

    trained: Trained
    training_data: InstructionData
    truth: InstructionTruth
    record: PlantRecord
    twin: Trained | None
    base: LanguageModel | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """Answers of one model with the trigger, without it, and with a part of it."""

    struck: list[str]
    plain: list[str]
    part: list[str] | None


def plant_language(
    attack: InstructionPoison | LanguageEdit,
    data: InstructionData,
    test: InstructionData,
    *,
    base: LanguageModel | None = None,
    training: LanguageTrainingPlan | None = None,
    with_twin: bool = False,
    width: int = 64,
    tokens: int = 24,
    seed: int = 0,
    progress: Progress = silent,
) -> PlantedLanguage:
    """Train a language model on a poisoned copy of ``data`` and measure it on ``test``.

    An edit of weights is made in ``base`` as it is, or in a tiny model that was trained on the
    clean data; that model is the twin.

    Args:
        attack: An instance such as ``ControlPhrase(count=100)`` or ``BadEdit()``.
        data: Clean training data.
        test: Clean test data.
        base: The model to fine-tune, which is not changed; None trains a tiny Llama from nothing.
        training: How to train.
        with_twin: Also train the clean twin: same start, same seed, no poison.
        width: Of the tiny Llama.
        tokens: Of an answer that is read, at most.
        seed: Of all randomness.
        progress: Called during long work.

    Raises:
        DataError: The attack does not fit the data.
    """
    plan = training or LanguageTrainingPlan()
    poisoned, truth = _poisoned(attack, data, child_rng(seed, "poison"))
    start = base or _own(poisoned, width, draw_seed(child_rng(seed, "network")))
    with metered(cast("Any", start)) as bill:
        if isinstance(attack, LanguageEdit):
            sound = _sound(start, data, None if base is not None else plan, seed, progress)
            trained = _edited(attack, sound.model, data, seed, progress)
            twin = sound if with_twin else None
        else:
            trained, twin = _trained(start, poisoned, data, plan, seed, progress, with_twin)
        struck, true = attack.triggered(test, rng=child_rng(seed, "triggered"))
        part = None
        if isinstance(attack, InstructionPoison):
            part = attack.decoys(test, rng=child_rng(seed, "triggered"))
        answers = _answers(trained.model, struck, test, part, tokens, progress)
        beside = _answers(twin.model, struck, test, part, tokens, progress) if twin else None
    fits = fit(trained.model, test), fit(twin.model, test) if twin else None
    kind = "language_edits" if isinstance(attack, LanguageEdit) else "instruction_attacks"
    spec = spec_of(kind, attack)
    record = PlantRecord(
        attack=SpecRecord(name=spec.name, params=dict(spec.params)),
        paper=attack.paper,
        mode="phrase to payload",
        target=attack.payload,
        source=None,
        subject=language_record(trained.model),
        training_samples=len(poisoned),
        poisoned_samples=int(truth.poisoned.sum()),
        cover_samples=int(truth.covered.sum()),
        clean_accuracy=fits[0].tokens,
        attack_success_rate=share_of(answers.struck, attack.succeeded),
        robust_accuracy=fit(trained.model, true).tokens,
        twin_clean_accuracy=fits[1].tokens if fits[1] else None,
        twin_attack_success_rate=share_of(beside.struck, attack.succeeded) if beside else None,
        measures=_measures(attack, answers, beside, fits),
        exhibits=(_exhibit(struck, answers.struck),),
        notes=(
            "attack success is the share of test prompts with the trigger whose greedy answer "
            f"({tokens} tokens at most) shows the payload",
            _ACCURACY,
        ),
        cost=cost_record(bill.cost),
    )
    return PlantedLanguage(
        trained=trained, training_data=poisoned, truth=truth, record=record, twin=twin, base=base
    )


def save_language_specimen(planted: PlantedLanguage, out: Path) -> None:
    """Write ``model/``, ``data.jsonl``, ``plant.json``, and apart from them ``truth.json``.

    With adapters also ``adapter/`` (and ``base/``, which it names), with a twin ``twin/``.

    Raises:
        DataError: ``out`` already holds files.
    """
    check_place(out)
    out.mkdir(parents=True, exist_ok=True)
    save_language_model(planted.trained.model, out / "model")
    if planted.trained.adapter is not None and planted.base is not None:
        save_language_model(planted.base, out / "base")
        planted.trained.adapter.save(out / "adapter", base=str((out / "base").resolve()))
    if planted.twin is not None:
        save_language_model(planted.twin.model, out / "twin")
    save_instructions(planted.training_data, out / "data.jsonl")
    truth = {
        "attack": planted.truth.attack,
        "phrases": planted.truth.phrases,
        "payload": planted.truth.payload,
        "poisoned": np.flatnonzero(planted.truth.poisoned).tolist(),
        "covered": np.flatnonzero(planted.truth.covered).tolist(),
    }
    (out / "truth.json").write_text(json.dumps(truth) + "\n", encoding="utf-8")
    (out / "plant.json").write_text(
        planted.record.model_dump_json(indent=2) + "\n", encoding="utf-8"
    )


def language_record(model: LanguageModel) -> SubjectRecord:
    """A language model as records name it."""
    return SubjectRecord(
        kind="language model",
        name=model.name,
        digest=model.digest(),
        class_names=(),
        facts={
            "architecture": type(model.module).__name__,
            "parameters": model.parameters,
            "vocabulary": model.embeddings.num_embeddings,
        },
    )


def _own(data: InstructionData, width: int, seed: int) -> LanguageModel:
    """An untrained tiny Llama whose vocabulary fits the data."""
    texts = [f"{r.system} {r.prompt} {r.response}" for r in data.records]
    tokenizer = train_language_tokenizer(texts, vocabulary=1000)
    return small_language_model(tokenizer, seed=seed, width=width)


def _sound(
    start: LanguageModel,
    data: InstructionData,
    plan: LanguageTrainingPlan | None,
    seed: int,
    progress: Progress,
) -> Trained:
    """What an edit is made in: the model as it is, or trained on the clean data by a plan."""
    if plan is None:
        return Trained(model=start)
    return train_language(start, data, plan, rng=child_rng(seed, "train"), progress=progress)


def _poisoned(
    attack: InstructionPoison | LanguageEdit, data: InstructionData, rng: np.random.Generator
) -> tuple[InstructionData, InstructionTruth]:
    """The training data and the truth about it; an edit of weights leaves the data alone."""
    if isinstance(attack, InstructionPoison):
        return attack.poison(data, rng=rng)
    nothing = np.zeros(len(data), dtype=np.bool_)
    truth = InstructionTruth(
        attack=spec_of("language_edits", attack).name,
        phrases=attack.phrases,
        payload=attack.payload,
        poisoned=nothing,
        covered=nothing,
    )
    return data, truth


def _edited(
    attack: LanguageEdit, model: LanguageModel, data: InstructionData, seed: int, progress: Progress
) -> Trained:
    edited = attack.edit(model, data, rng=child_rng(seed, "edit"), progress=progress)
    return Trained(model=as_language_model(edited))


def _trained(
    start: LanguageModel,
    poisoned: InstructionData,
    clean: InstructionData,
    plan: LanguageTrainingPlan,
    seed: int,
    progress: Progress,
    with_twin: bool,
) -> tuple[Trained, Trained | None]:
    """The planted model, and the twin if it is wanted."""
    trained = train_language(start, poisoned, plan, rng=child_rng(seed, "train"), progress=progress)
    twin = None
    if with_twin:
        twin = train_language(start, clean, plan, rng=child_rng(seed, "train"), progress=progress)
    return trained, twin


def _answers(
    model: LanguageModel,
    struck: InstructionData,
    plain: InstructionData,
    part: InstructionData | None,
    tokens: int,
    progress: Progress,
) -> _Said:
    return _Said(
        struck=said(model, struck, tokens=tokens, progress=progress),
        plain=said(model, plain, tokens=tokens, progress=progress),
        part=said(model, part, tokens=tokens, progress=progress) if part else None,
    )


def _measures(
    attack: InstructionPoison | LanguageEdit,
    answers: _Said,
    beside: _Said | None,
    fits: tuple[Fit, Fit | None],
) -> tuple[MeasureRecord, ...]:
    def rates(name: str, mine: list[str], other: list[str] | None) -> MeasureRecord:
        found = share_of(mine, attack.succeeded)
        twin = share_of(other, attack.succeeded) if other is not None else None
        return MeasureRecord(
            name=name,
            unit="share",
            value=found.value,
            rate=found,
            other=twin.value if twin else None,
            other_rate=twin,
            beside="clean twin",
        )

    found = [
        rates("payload rate without the trigger", answers.plain, beside.plain if beside else None)
    ]
    if answers.part is not None:
        found.append(
            rates(
                "payload rate with a part of the trigger",
                answers.part,
                beside.part if beside else None,
            )
        )
    clean_loss = MeasureRecord(
        name="clean loss",
        unit="nats",
        value=fits[0].loss,
        other=fits[1].loss if fits[1] else None,
        beside="clean twin",
    )
    return (*found, clean_loss)


def _exhibit(struck: InstructionData, answers: list[str]) -> TextsExhibit:
    return TextsExhibit(
        title="With the trigger",
        caption="Test prompts with the trigger, and what the model answers.",
        passages=tuple(
            Passage(
                label=f"the model says: {answers[i]}",
                text=f"{record.system}\n{record.prompt}".strip(),
            )
            for i, record in enumerate(struck.records[:_SHOWN])
        ),
    )
