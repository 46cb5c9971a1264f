"""Records made up by hand: realistic enough to look at, small enough to read."""

import math

import numpy as np

from gifthorse.core.exhibits import (
    BarsExhibit,
    HistogramExhibit,
    Picture,
    PicturesExhibit,
    ScatterExhibit,
    picture,
)
from gifthorse.core.record import (
    AuditRecord,
    Chapter,
    CostRecord,
    EvidenceRecord,
    FindingRecord,
    PlanRecord,
    PlantRecord,
    Rate,
    RepairRecord,
    SpecRecord,
    StoryRecord,
    SubjectRecord,
    ThresholdRecord,
)
from gifthorse.core.rounds_record import (
    QuarantineRecord,
    RoundRecord,
    TrialRecord,
    TrialSpec,
    rounds_digest,
)
from gifthorse.core.types import Unit, Verdict

CREATED = "2026-03-01T12:00:00+00:00"
VERSIONS = {"python": "3.11.9", "gifthorse": "0.1.0", "torch": "2.13.0", "numpy": "2.1.0"}
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
HOSTILE = "<script>alert(1)</script> \"quoted\" & 'more' | `code` \u202e@all"
COST = CostRecord(
    seconds=83.4, forward_passes=128_000, backward_passes=96_000, peak_memory_mib=912.0
)


def subject(name: str = "models/street-signs", data: bool = False) -> SubjectRecord:
    return SubjectRecord(
        kind="image data" if data else "image classifier",
        name=name,
        digest="sha256:" + "3f9a1c07" * 8,
        class_names=CLASSES,
        facts={"samples": 50_000} if data else {"architecture": "resnet18", "parameters": 11173962},
    )


def pictures() -> PicturesExhibit:
    rng = np.random.default_rng(0)
    mask = np.zeros((3, 32, 32), dtype=np.float32)
    mask[:, 26:31, 26:31] = [[[0.95]], [[0.9]], [[0.2]]]
    stripes = np.linspace(0.2, 0.8, 32, dtype=np.float32)
    shown: list[Picture] = [picture(mask, "recovered trigger for ‘bird’")]
    for name in ("cat", "ship", "truck"):
        sample = np.stack([np.outer(stripes, np.roll(stripes, int(rng.integers(32))))] * 3)
        sample += rng.normal(0, 0.06, sample.shape)
        sample[mask > 0] = mask[mask > 0]
        shown.append(picture(sample.astype(np.float32), f"{name} → bird"))
    return PicturesExhibit(
        title="Recovered trigger",
        caption="The smallest pattern that sends trusted samples to ‘bird’, alone and stamped.",
        pictures=tuple(shown),
    )


def bars() -> BarsExhibit:
    values = (0.4, 1.1, 6.8, 0.9, 0.2, 1.3, 0.7, 0.1, 1.6, 0.5)
    return BarsExhibit(
        title="Anomaly of every class",
        caption="How far each class lies from the median, in robust standard deviations.",
        labels=CLASSES,
        values=values,
        value_name="anomaly index",
        threshold=2.9,
        highlight=(2,),
    )


def scatter() -> ScatterExhibit:
    rng = np.random.default_rng(1)
    ordinary, suspect = rng.normal(0, 1, (400, 2)), rng.normal((3.5, 1.5), 0.4, (60, 2))
    points = np.concatenate([ordinary, suspect])
    return ScatterExhibit(
        title="Activations of class ‘bird’",
        caption="First two principal components; the small cluster is the one pointed to.",
        x=tuple(points[:, 0].tolist()),
        y=tuple(points[:, 1].tolist()),
        group=(0,) * 400 + (1,) * 60,
    )


def histogram() -> HistogramExhibit:
    rng = np.random.default_rng(2)
    edges = np.linspace(0, 4, 33)
    clean = np.histogram(rng.normal(1.4, 0.35, 5000), edges)[0]
    suspect = np.histogram(rng.normal(2.9, 0.25, 180), edges)[0]
    return HistogramExhibit(
        title="Spectral scores",
        caption="Squared projection on the top singular vector.",
        value_name="outlier score",
        edges=tuple(edges.tolist()),
        counts={"other samples": tuple(clean.tolist()), "class ‘bird’": tuple(suspect.tolist())},
        threshold=2.4,
    )


def flagged() -> FindingRecord:
    return FindingRecord(
        detector=SpecRecord(name="neural_cleanse", params={"steps": 500, "lr": 0.1, "norm": "l1"}),
        paper="Wang et al., Neural Cleanse, IEEE S&P 2019",
        verdict=Verdict.FLAGGED,
        reason="Class ‘bird’ can be reached with a pattern far smaller than any other class.",
        evidence=EvidenceRecord(
            unit=Unit.CLASS,
            unit_names=CLASSES,
            scores=bars().values,
            statistic=6.8,
            p_value=3.1e-6,
            suspects=(2,),
            exhibits=(pictures(), bars(), scatter(), histogram()),
            notes=("Class ‘truck’ had 3 trusted samples and was not examined.",),
        ),
        threshold=ThresholdRecord(
            value=2.9,
            false_alarm_rate=0.0125,
            origin="Gumbel fit to the scores of 120 clean models of the reference bank.",
        ),
        cost=COST,
    )


def clear_finding(name: str = "universality") -> FindingRecord:
    return FindingRecord(
        detector=SpecRecord(name=name, params={"budget": 0.05}),
        paper="Moosavi-Dezfooli et al., CVPR 2017",
        verdict=Verdict.CLEAR,
        reason="No class is reached by a universal perturbation more easily than usual.",
        evidence=EvidenceRecord(
            unit=Unit.CLASS,
            unit_names=CLASSES,
            scores=(0.4,) * 10,
            statistic=1.2,
            p_value=0.31,
            suspects=(4,),
            exhibits=(bars(),),
            notes=(),
        ),
        threshold=ThresholdRecord(
            value=2.5, false_alarm_rate=0.0125, origin="Exact under exchangeability of classes."
        ),
        cost=COST,
    )


def undecided(name: str, verdict: Verdict, reason: str) -> FindingRecord:
    return FindingRecord(
        detector=SpecRecord(name=name, params={"clusters": 2}),
        paper="Chen et al., Activation Clustering, 2018",
        verdict=verdict,
        reason=reason,
        cost=CostRecord(seconds=0.02, forward_passes=0, backward_passes=0, peak_memory_mib=640.0),
    )


def audit_of(
    verdict: Verdict,
    findings: tuple[FindingRecord, ...],
    *,
    score: float | None,
    reason: str,
    name: str = "models/street-signs",
    scan: bool = False,
) -> AuditRecord:
    return AuditRecord(
        created=CREATED,
        versions=VERSIONS,
        kind="scan" if scan else "audit",
        verdict=verdict,
        score=score,
        reason=reason,
        subject=subject(name, data=scan),
        trusted=None if scan else subject("data/trusted", data=True),
        plan=PlanRecord(
            detectors=tuple(finding.detector for finding in findings),
            false_alarm_rate=0.05,
            seed=7,
        ),
        findings=findings,
        notes=("Pictures were resized from 64 × 64 to 32 × 32.",),
        cost=COST,
    )


def audit_flagged() -> AuditRecord:
    findings = (
        undecided(
            "activation_clustering",
            Verdict.NOT_APPLICABLE,
            "Needs the training data, which was not given.",
        ),
        clear_finding(),
        undecided("strip", Verdict.FAILED, "RuntimeError: the model returned NaN for 3 samples."),
        flagged(),
        undecided("fine_pruning_probe", Verdict.INCONCLUSIVE, "Only 12 trusted samples; needs 50."),
    )
    return audit_of(
        Verdict.FLAGGED,
        findings,
        score=-math.log10(1.24e-5),
        reason="Neural Cleanse points to class ‘bird’.",
    )


def audit_clear() -> AuditRecord:
    reason = "2 detectors saw nothing above their thresholds."
    findings = (clear_finding(), clear_finding("neural_cleanse"))
    return audit_of(Verdict.CLEAR, findings, score=0.24, reason=reason)


def audit_inconclusive() -> AuditRecord:
    reason = "No detector came to a result."
    findings = (undecided("strip", Verdict.INCONCLUSIVE, "Needs trusted samples."),)
    return audit_of(Verdict.INCONCLUSIVE, findings, score=None, reason=reason)


def scan_flagged(suspects: int = 640) -> AuditRecord:
    rng = np.random.default_rng(3)
    chosen = rng.choice(50_000, suspects, replace=False)
    finding = FindingRecord(
        detector=SpecRecord(name="spectral_signatures", params={"fraction": 0.15}),
        paper="Tran et al., Spectral Signatures, NeurIPS 2018",
        verdict=Verdict.FLAGGED,
        reason="Class ‘bird’ holds a group of samples that stands apart.",
        evidence=EvidenceRecord(
            unit=Unit.SAMPLE,
            unit_names=(),
            scores=(0.1,) * 50,
            statistic=14.2,
            p_value=1.2e-9,
            suspects=tuple(chosen.tolist()),
            exhibits=(scatter(), histogram()),
            notes=(),
        ),
        threshold=ThresholdRecord(value=4.1, false_alarm_rate=0.05, origin="Tracy–Widom limit."),
        cost=COST,
    )
    reason = f"Spectral signatures points to {suspects} samples."
    return audit_of(
        Verdict.FLAGGED, (finding,), score=8.9, reason=reason, name="data/bought", scan=True
    )


def rate(count: int, total: int) -> Rate:
    share = count / total
    half = 1.96 * math.sqrt(share * (1 - share) / total) + 0.001
    return Rate(
        value=share, low=max(0.0, share - half), high=min(1.0, share + half),
        count=count, total=total,
    )  # fmt: skip


def repair(accepted: bool = True) -> RepairRecord:
    after = rate(1921 if accepted else 1603, 2000)
    return RepairRecord(
        created=CREATED,
        versions=VERSIONS,
        accepted=accepted,
        reason="Accuracy fell by 0.8 points; 3 are allowed."
        if accepted
        else "Accuracy fell by 16.7 points; 3 are allowed.",
        repair=SpecRecord(name="fine_pruning", params={"fraction": 0.2, "epochs": 5}),
        paper="Liu et al., Fine-Pruning, RAID 2018",
        subject=subject(),
        repaired_digest="sha256:" + "77ab01ce" * 8 if accepted else None,
        accuracy_before=rate(1937, 2000),
        accuracy_after=after,
        allowed_drop=0.03,
        notes=("102 of 512 channels were removed.",),
        cost=COST,
    )


def plant() -> PlantRecord:
    return PlantRecord(
        created=CREATED,
        versions=VERSIONS,
        attack=SpecRecord(name="badnets", params={"size": 5, "target": "bird", "rate": 0.05}),
        paper="Gu et al., BadNets, 2017",
        mode="all-to-one",
        target="bird",
        source=None,
        subject=subject(),
        training_samples=50_000,
        poisoned_samples=2_500,
        cover_samples=0,
        clean_accuracy=rate(1934, 2000),
        attack_success_rate=rate(1797, 1800),
        robust_accuracy=rate(2, 1800),
        twin_clean_accuracy=rate(1941, 2000),
        exhibits=(pictures(),),
        notes=(),
        cost=COST,
    )


def story() -> StoryRecord:
    steps = (
        ("Plant a backdoor", "We train a model on poisoned pictures.", plant()),
        ("Audit it", "The auditor sees only the model.", audit_flagged()),
        ("Repair it, too harshly", "The first attempt costs too much.", repair(accepted=False)),
        ("Repair it", "A gentler attempt.", repair()),
        ("Audit it again", "Is the backdoor gone?", audit_clear()),
    )
    return StoryRecord(
        created=CREATED,
        versions=VERSIONS,
        title="A backdoor found and removed",
        summary="One model is poisoned, found out, repaired and examined again.",
        chapters=tuple(Chapter(title=a, text=b, record=c) for a, b, c in steps),
    )


def federated_trial() -> TrialRecord:
    """Ten rounds; one attacker in rounds 2 to 5 that gets through and is then rejected."""
    spec = TrialSpec(
        data="digits", clients=3, rounds=10, window=(2, 6), attack="dba", defence="krum"
    )
    success = [0, 0, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5]
    rounds = tuple(
        RoundRecord(
            round=number,
            clean_accuracy=0.9,
            attack_success=success[number],
            malicious=("client-000",) if 2 <= number < 6 else (),
            accepted=("client-001", "client-002", *(() if number in (4, 5) else ("client-000",))),
            rejected=("client-000",) if number in (4, 5) else (),
            quarantined=(QuarantineRecord(client="hostile-nan", reason="not finite", detail="w"),),
            missing=("hostile-dropped",),
            fallback=None,
            replies={},
            model="0" * 64,
        )
        for number in range(10)
    )
    return TrialRecord(
        spec=spec,
        clean_accuracy=0.9,
        attack_success_before=0.0,
        attack_success_peak=1.0,
        attack_success_end=1.0,
        attack_success_after=0.5,
        rejected_malicious=0.5,
        rejected_honest=0.0,
        fallbacks=0,
        rounds=rounds,
        digest=rounds_digest(spec, rounds),
        aggregation_seconds=0.01,
        seconds=1.0,
        created="2026-01-02T03:04:05+00:00",
        versions={"gifthorse": "0.1.0"},
    )
