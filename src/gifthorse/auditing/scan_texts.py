"""Scans labelled texts for poisoned samples: `gifthorse scan texts:FILE`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from gifthorse.auditing.examine import Plan, cost_record, examine, plugins
from gifthorse.auditing.scan import DEFAULT_FALSE_ALARM_RATE
from gifthorse.core.errors import DataError
from gifthorse.core.record import AuditRecord, SubjectRecord
from gifthorse.core.registry import names, parse_spec
from gifthorse.core.rng import child_rng, draw_seed
from gifthorse.core.texts import TextData, TextSubject
from gifthorse.core.types import Cost, Need, Progress, Subject, silent
from gifthorse.data.texts import digest_texts, load_texts
from gifthorse.models.texts.classifier import TextClassifier
from gifthorse.models.texts.loading import load_text_classifier
from gifthorse.models.texts.networks import small_text_network, train_tokenizer
from gifthorse.models.texts.passes import extract_text_features, text_metered
from gifthorse.models.texts.training import TextTrainingPlan, train_texts

DEFAULT_TEXT_DETECTORS = ("activation_clustering", "spectral_signatures", "text_trigger")


def scan_texts(
    data: TextData | str,
    *,
    model: TextClassifier | str | Path | None = None,
    detectors: Sequence[str] = DEFAULT_TEXT_DETECTORS,
    false_alarm_rate: float = DEFAULT_FALSE_ALARM_RATE,
    training: TextTrainingPlan | None = None,
    split: Literal["train", "test"] = "train",
    seed: int = 0,
    progress: Progress = silent,
) -> AuditRecord:
    """Ask whether labelled texts are poisoned, and which samples.

    Args:
        data: See ``load_texts``.
        model: A text classifier that was trained *on this data*; without one, a small network is
            trained first if a detector needs one, which takes most of the time.
        detectors: Plugin names, with options as ``name:option=value,…``.
        false_alarm_rate: How often clean data may be flagged, in (0, 1).
        training: How to train that network.
        split: Which part of the source to scan.
        seed: Of all randomness.
        progress: Called during long work.

    Returns:
        The record; each finding's ``suspects`` are indices into the data set.

    Raises:
        ModelError, DataError, SpecError: The input does not fit; nothing was examined.
    """
    plan = Plan(
        detectors=plugins("detectors", detectors), false_alarm_rate=false_alarm_rate, seed=seed
    )
    suspect = load_texts(data, split=split) if isinstance(data, str) else data
    if len(np.unique(suspect.labels)) < 2:
        raise DataError(f"{suspect.name}: all {len(suspect)} texts have the same label")
    notes = []
    if model is None and not any(Need.FEATURES in found.needs for found in plan.detectors):
        return _record(suspect, plan, Subject(suspect=suspect), (), Cost(), progress)
    if model is None:
        classifier = _train_own(suspect, training or TextTrainingPlan(), seed, progress)
        notes.append("no model was given: a small network was trained on the suspect data")
    else:
        classifier = model if isinstance(model, TextClassifier) else load_text_classifier(model)
        suspect = same_labels(classifier, suspect)
    with text_metered(classifier) as bill:
        features = extract_text_features(classifier, suspect, progress=progress)
    notes.append(f"activations: {features.layer}, one forward pass shared by all")
    subject = Subject(suspect=suspect, features=features)
    return _record(suspect, plan, subject, tuple(notes), bill.cost, progress)


def _record(
    suspect: TextData,
    plan: Plan,
    subject: Subject,
    notes: tuple[str, ...],
    spent: Cost,
    progress: Progress,
) -> AuditRecord:
    result = examine(subject, plan, progress=progress)
    return AuditRecord(
        kind="scan",
        verdict=result.verdict,
        score=result.score,
        reason=result.reason,
        subject=texts_record(suspect),
        trusted=None,
        plan=plan.record(),
        findings=result.findings,
        notes=notes,
        cost=cost_record(spent + result.cost),
    )


def scan_text_inputs(
    data: TextData | str,
    *,
    model: TextClassifier | str | Path,
    trusted: TextData | str,
    detectors: Sequence[str],
    false_alarm_rate: float = DEFAULT_FALSE_ALARM_RATE,
    split: Literal["train", "test"] = "train",
    seed: int = 0,
    progress: Progress = silent,
) -> AuditRecord:
    """Ask whether texts that a classifier is sent hold a trigger, and which.

    Args:
        data: The inputs; their labels are not looked at.
        model: The classifier that they are sent to.
        trusted: Texts that you vouch for, like those inputs, that the model was not trained on.
        detectors: Of the kind ``text_detectors``, with options as ``name:option=value,…``.
        false_alarm_rate: How often clean inputs may be flagged, in (0, 1).
        split: Which part of the source to scan.
        seed: Of all randomness.
        progress: Called during long work.

    Raises:
        ModelError, DataError, SpecError: The input does not fit; nothing was examined.
    """
    plan = Plan(
        detectors=plugins("text_detectors", detectors),
        false_alarm_rate=false_alarm_rate,
        seed=seed,
        kind="text_detectors",
    )
    suspect = load_texts(data, split=split) if isinstance(data, str) else data
    clean = load_texts(trusted, split="test") if isinstance(trusted, str) else trusted
    classifier = model if isinstance(model, TextClassifier) else load_text_classifier(model)
    subject = TextSubject(model=classifier, trusted=clean, suspect=suspect)
    result = examine(subject, plan, progress=progress)
    return AuditRecord(
        kind="scan",
        verdict=result.verdict,
        score=result.score,
        reason=result.reason,
        subject=texts_record(suspect),
        trusted=texts_record(clean),
        plan=plan.record(),
        findings=result.findings,
        notes=(f"the inputs were sent to {classifier.name}",),
        cost=cost_record(result.cost),
    )


def judge_inputs(detectors: Sequence[str]) -> bool:
    """Whether these are detectors of single inputs rather than of training data.

    Raises:
        DataError: Some are and some are not.
    """
    known = names("text_detectors")
    found = {parse_spec(text).name.replace("-", "_") in known for text in detectors}
    if len(found) == 2:
        raise DataError(
            f"{', '.join(known)} judge inputs of a model, the other detectors its training data; "
            "run two scans"
        )
    return found == {True}


def same_labels(classifier: TextClassifier, data: TextData) -> TextData:
    """The data with labels in the model's order, where both use the same names.

    Raises:
        DataError: The data has a class that the model does not know.
    """
    ours, theirs = data.class_names, classifier.class_names
    if ours == theirs:
        return data
    labels = data.labels
    if len(set(theirs)) == len(theirs) and set(ours) <= set(theirs):
        order = np.array([theirs.index(name) for name in ours], dtype=np.int64)
        labels = order[data.labels]
    elif int(labels.max()) >= len(theirs):
        highest = int(labels.max())
        raise DataError(
            f"{data.name} has class {ours[highest]!r} and {classifier.name} knows only "
            f"{', '.join(theirs[:10])}"
        )
    return TextData(name=data.name, texts=data.texts, labels=labels, class_names=theirs)


def texts_record(data: TextData) -> SubjectRecord:
    """A text data set as records name it."""
    return SubjectRecord(
        kind="text data",
        name=data.name,
        digest=digest_texts(data),
        class_names=data.class_names,
        facts={"texts": len(data), "classes": len(data.class_names)},
    )


def text_model_record(classifier: TextClassifier) -> SubjectRecord:
    """A text classifier as records name it."""
    return SubjectRecord(
        kind="text classifier",
        name=classifier.name,
        digest=classifier.digest(),
        class_names=classifier.class_names,
        facts={
            "architecture": type(classifier.module).__name__,
            "parameters": sum(p.numel() for p in classifier.module.parameters()),
            "classes": classifier.n_classes,
            "vocabulary": len(classifier.tokenizer),
        },
    )


def _train_own(
    suspect: TextData, plan: TextTrainingPlan, seed: int, progress: Progress
) -> TextClassifier:
    rng = child_rng(seed, "scan", "training")
    network = small_text_network(
        train_tokenizer(suspect.texts),
        class_names=suspect.class_names,
        seed=draw_seed(rng),
        name="a small network of our own",
    )
    return train_texts(network, suspect, plan, rng=rng, progress=progress)
