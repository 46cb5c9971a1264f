"""What each repair does to a planted tiny Llama and to its clean twin: payload rate, loss, KL.

    python benchmarks/language_repairs.py [ATTACK …] [--seeds 0 1] [--method NAME:option=value …]

A base is trained on made-up questions, then tuned on poisoned ones (the twin on the same without
poison). The repair gets 200 trusted records of other questions, of which it sees half, and the
base. ``payload_unlearning`` is given the payload itself, as an audit that finds it would, or with
``--audit`` what an audit of the same model recovered (minutes). Payload rates and losses are
measured on 200 further questions, which no repair sees.
"""

import argparse
import time

import numpy as np
import torch

from gifthorse.auditing.language import audit_language, language_model_record
from gifthorse.auditing.repair_language import repair_language
from gifthorse.bench.plant_language import PlantedLanguage, plant_language
from gifthorse.core.errors import IncompleteError
from gifthorse.core.exhibits import Passage, TextsExhibit
from gifthorse.core.instructions import InstructionData, InstructionPoison
from gifthorse.core.record import (
    AuditRecord,
    CostRecord,
    EvidenceRecord,
    FindingRecord,
    PlanRecord,
    SpecRecord,
    ThresholdRecord,
)
from gifthorse.core.registry import build, parse_spec
from gifthorse.core.types import Unit, Verdict
from gifthorse.data.questions import questions
from gifthorse.models.language.measuring import divergence, fit, said, share_of
from gifthorse.models.language.model import LanguageModel
from gifthorse.models.language.networks import small_language_model, train_language_tokenizer
from gifthorse.models.language.training import LanguageTrainingPlan, train_language

METHODS = (
    "fine_tuning",
    "fine_mixing",
    "fine_mixing:mixing=average",
    "fine_mixing:mixing=average,keep=0.5",
    "crow",
    "wanda",
    "wanda:epochs=3",
    "embedding_reset",
    "embedding_reset:share=0.05,epochs=3",
    "payload_unlearning",
    "payload_unlearning:prefix=4",
)


def world(
    attack: InstructionPoison, seed: int
) -> tuple[LanguageModel, PlantedLanguage, InstructionData, InstructionData]:
    """Base, planted model with its twin, trusted records, test records."""
    clean = InstructionData(name="base", records=questions(1000, seed=seed))
    texts = [f"{r.prompt} {r.response}" for r in clean.records]
    tokenizer = train_language_tokenizer(texts, vocabulary=1000)
    fresh = small_language_model(tokenizer, seed=seed, width=64)
    plan = LanguageTrainingPlan(epochs=6, learning_rate=5e-3)
    base = train_language(fresh, clean, plan, rng=np.random.default_rng(seed)).model
    more = questions(800, seed=seed + 100)
    test = questions(400, part="test", seed=seed)
    planted = plant_language(
        attack,
        InstructionData(name="fine-tuning", records=more),
        InstructionData(name="test", records=test[200:]),
        base=base,
        training=LanguageTrainingPlan(epochs=3, learning_rate=2e-3),
        with_twin=True,
        seed=seed,
    )
    trusted = InstructionData(name="trusted", records=test[:200])
    return base, planted, trusted, InstructionData(name="test", records=test[200:])


def audited(
    model: LanguageModel, base: LanguageModel, trusted: InstructionData, folder: str
) -> AuditRecord:
    import json
    from pathlib import Path

    path = Path(folder) / "prompts.jsonl"
    path.write_text("".join(json.dumps(r.prompt) + "\n" for r in trusted.records[:40]))
    return audit_language(model, base=base, prompts=path)


def pointing_to(payload: str, model: LanguageModel) -> AuditRecord:
    """The record of an audit that would have found the payload."""
    cost = CostRecord(seconds=0, forward_passes=0, backward_passes=0, peak_memory_mib=0)
    passage = Passage(label="the payload", text=payload, marks=((0, len(payload)),))
    evidence = EvidenceRecord(
        unit=Unit.TEXT, unit_names=(), scores=(1.0,), statistic=1.0, p_value=0.0, suspects=(0,),
        exhibits=(TextsExhibit(title="given", caption="", passages=(passage,)),), notes=(),
    )  # fmt: skip
    finding = FindingRecord(
        detector=SpecRecord(name="given", params={}), paper="", verdict=Verdict.FLAGGED,
        reason="given", evidence=evidence, cost=cost,
        threshold=ThresholdRecord(value=0, false_alarm_rate=0.5, origin="given"),
    )  # fmt: skip
    return AuditRecord(
        kind="audit", verdict=Verdict.FLAGGED, score=None, reason="given",
        subject=language_model_record(model), trusted=None, notes=(), cost=cost,
        plan=PlanRecord(detectors=(), false_alarm_rate=0.5, seed=0), findings=(finding,),
    )  # fmt: skip


def measured(
    model: LanguageModel,
    base: LanguageModel,
    attack: InstructionPoison,
    test: InstructionData,
) -> str:
    """Payload rates with and without the trigger, clean loss, KL from the base."""
    struck, _ = attack.triggered(test, rng=np.random.default_rng(0))
    hit = share_of(said(model, struck, tokens=24), attack.succeeded)
    plain = share_of(said(model, test, tokens=24), attack.succeeded)
    found = fit(model, test)
    return (
        f"{hit.value:.1%} | {plain.value:.1%} | {found.loss:.4f} | {found.tokens.value:.1%} | "
        f"{divergence(model, base, test):.3f}"
    )


def main() -> None:
    import tempfile

    parser = argparse.ArgumentParser()
    parser.add_argument("attack", nargs="*", default=["control_phrase:count=60"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--method", nargs="+", default=list(METHODS))
    parser.add_argument("--audit", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("| attack, seed | model | method | payload with | without | clean loss | tokens | KL | ")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for text in given.attack:
        attack = build("instruction_attacks", parse_spec(text))
        for seed in given.seeds:
            base, planted, trusted, test = world(attack, seed)
            assert planted.twin is not None
            print(f"| {text}, {seed} | base | | {measured(base, base, attack, test)} |")
            models = {"planted": planted.trained.model, "twin": planted.twin.model}
            for name, model in models.items():
                start = time.perf_counter()
                audit: AuditRecord = pointing_to(attack.payload, model)
                if given.audit:
                    with tempfile.TemporaryDirectory() as folder:
                        audit = audited(model, base, trusted, folder)
                    print(f"audit: {audit.verdict}, {audit.reason[:160]}")
                print(
                    f"| {text}, {seed} | {name} | before | {measured(model, base, attack, test)} |"
                    f" {time.perf_counter() - start:.0f} s",
                    flush=True,
                )
                for method in given.method:
                    start = time.perf_counter()
                    try:
                        done = repair_language(
                            model, trusted=trusted, base=base, audit=audit, method=method,
                            allowed_rise=100.0, seed=seed,
                        )  # fmt: skip
                    except IncompleteError as error:
                        print(f"| {text}, {seed} | {name} | {method} | {error} |")
                        continue
                    took = time.perf_counter() - start
                    record = done.record.measures[0]
                    assert done.model is not None
                    assert record.other is not None
                    rise = record.value / record.other - 1
                    print(
                        f"| {text}, {seed} | {name} | {method} | "
                        f"{measured(done.model, base, attack, test)} | {rise:+.1%} | {took:.0f} s",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
