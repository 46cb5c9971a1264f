"""Edited weights: one matrix, or one token's embedding, changed out of proportion to the others.

An edit that plants a trigger without training touches few weights: BadEdit (Li et al. 2024,
arXiv:2403.13355) changes a few MLP matrices by a matrix of low rank, embedding poisoning (Kurita et
al. 2020, arXiv:2004.06660) the rows of the trigger's tokens. Needs the base; runs no model. The
spectral figures (share of the largest singular value in a change) follow the LoRA screens and are
shown, not judged: every low-rank adapter has few singular values.

Not published in this form: the units are each other's control group (decision 1), on the logarithm
of their relative change, in which training spreads them evenly and an edit stands alone.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.exhibits import BarsExhibit, Exhibit
from gifthorse.core.language import LanguageSubject
from gifthorse.core.types import Evidence, Need, Null, Progress, ScoreArray, Unit
from gifthorse.metrics.tails import LEAST_OTHERS, TailNull
from gifthorse.models.language.model import LanguageModel, as_language_model

_NOTHING = 1e-8
_POWER_STEPS = 8
_SHOWN = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class EditedWeights:
    """The relative change of every weight matrix, or of every token's embedding row.

    Attributes:
        rows: Judge the rows of the embedding table instead of the matrices.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS, Need.BASE})
    unit: ClassVar[Unit] = Unit.WEIGHT
    paper: ClassVar[str] = (
        "own control group; after Kurita et al. 2020 and BadEdit (Li et al. 2024)"
    )

    rows: bool = False

    def inspect(
        self,
        subject: LanguageSubject,
        *,
        rng: np.random.Generator,
        progress: Progress,
    ) -> Evidence:
        """The log₁₀ of each unit's relative change; the largest is the statistic.

        Raises:
            NotApplicableError: No base, another architecture, or nothing that differs.
        """
        model, base = as_language_model(subject.model), as_language_model(subject.base)
        spectra: list[float] = []
        if self.rows:
            names, changes = _row_changes(model, base)
        else:
            names, changes, spectra = _matrix_changes(model, base, rng, progress)
        if not bool((changes > 0).any()):
            what = "rows of the embedding table" if self.rows else "weight matrices"
            raise NotApplicableError(f"no difference from the base in the {what}")
        if len(changes) <= LEAST_OTHERS:
            raise NotApplicableError(f"{len(changes)} units are too few to compare with each other")
        scores = np.log10(np.maximum(changes, _NOTHING))
        top = int(scores.argmax())
        changed = int((changes > 0).sum())
        return Evidence(
            unit=Unit.WEIGHT,
            scores=scores,
            statistic=float(scores[top]),
            suspects=np.array([top], dtype=np.int64),
            exhibits=_exhibits(names, changes, spectra),
            notes=(
                f"{changed:,} of {len(changes):,} differ from the base; most: {names[top]!r}, by "
                f"{changes[top]:.2%}",
            ),
        )

    def null(self, evidence: Evidence) -> Null:
        """The tail of the other units."""
        others = np.delete(evidence.scores, evidence.suspects)
        what = "other embedding rows" if self.rows else "other weight matrices"
        return TailNull.of(others, what=what)


def _pairs(model: LanguageModel, base: LanguageModel) -> list[tuple[str, Tensor, Tensor]]:
    theirs = dict(base.module.named_parameters())
    found = [
        (name, value.detach().float(), theirs[name].detach().float())
        for name, value in model.module.named_parameters()
        if value.ndim == 2 and name in theirs and theirs[name].shape == value.shape
    ]
    if not found:
        raise NotApplicableError("model and base share no weight matrix; is it the right base?")
    return found


def _matrix_changes(
    model: LanguageModel, base: LanguageModel, rng: np.random.Generator, progress: Progress
) -> tuple[list[str], ScoreArray, list[float]]:
    names, changes, spectra = [], [], []
    pairs = _pairs(model, base)
    for i, (name, ours, theirs) in enumerate(pairs):
        delta = ours - theirs
        norm = float(delta.norm())
        names.append(name)
        changes.append(norm / max(float(theirs.norm()), 1e-12))
        spectra.append(_largest(delta, rng) ** 2 / norm**2 if norm > 0 else 0.0)
        progress(i + 1, len(pairs), "weights against the base")
    return names, np.array(changes), spectra


def _largest(matrix: Tensor, rng: np.random.Generator) -> float:
    """The largest singular value, by power iteration; never above the true one."""
    start = rng.standard_normal(matrix.shape[1])
    vector = torch.from_numpy(start).to(matrix)
    for _ in range(_POWER_STEPS):
        vector = matrix.T @ (matrix @ vector)
        vector = vector / vector.norm().clamp_min(1e-30)
    return float((matrix @ vector).norm())


def _row_changes(model: LanguageModel, base: LanguageModel) -> tuple[list[str], ScoreArray]:
    ours, theirs = model.embeddings.weight.detach(), base.embeddings.weight.detach()
    if ours.shape[1] != theirs.shape[1]:
        raise NotApplicableError("model and base have embeddings of different width")
    shared = min(len(ours), len(theirs), len(base.tokenizer))
    delta = (ours[:shared].float() - theirs[:shared].float()).norm(dim=1)
    typical = theirs[:shared].float().norm(dim=1).median().clamp_min(1e-12)
    texts = model.tokenizer.batch_decode([[i] for i in range(shared)])
    return [repr(text) for text in texts], (delta / typical).cpu().double().numpy()


def _exhibits(names: list[str], changes: ScoreArray, spectra: list[float]) -> tuple[Exhibit, ...]:
    order = np.argsort(-changes, kind="stable")[:_SHOWN]
    bars = BarsExhibit(
        title="Most changed against the base",
        caption="log₁₀ of the change, relative to the base; all others are the null.",
        labels=tuple(_short(names[int(i)]) for i in order),
        values=tuple(round(float(np.log10(max(changes[int(i)], _NOTHING))), 4) for i in order),
        value_name="log₁₀ of the relative change",
        judged=True,
        highlight=(0,),
    )
    if not spectra:
        return (bars,)
    shares = BarsExhibit(
        title="How much of each change is one direction",
        caption="Share of the largest singular value in the squared change, for the same matrices; "
        "1 for an edit of rank one. Shown, not judged.",
        labels=bars.labels,
        values=tuple(round(spectra[int(i)], 4) for i in order),
        value_name="share",
    )
    return bars, shares


def _short(name: str) -> str:
    plain = name.removeprefix("model.").removesuffix(".weight")
    return plain if len(plain) <= 32 else "…" + plain[-31:]
