"""Adapter spectra: is the change of the weights shaped like that of benign adapters of this base?

Our own test over the figures by which screens of LoRA adapters describe every ΔW: its largest
singular value, its Frobenius norm, the share of its energy in one direction, the entropy of its
spectrum and the kurtosis of its entries, compared with a bank of benign adapters. What such figures
show is how an adapter was trained, so a bank of another recipe (rank, data, steps) makes every
adapter an outlier. No model is run.

The figures are means over the matrices (of logarithms, but for entropy and share), one
figure a model, and instead of a trained classifier each is compared with a predictive t
distribution of the bank; Bonferroni over figures and both sides.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from scipy import stats

from gifthorse.core.errors import ModelError, NotApplicableError
from gifthorse.core.exhibits import BarsExhibit
from gifthorse.core.language import LanguageSubject
from gifthorse.core.types import Evidence, Need, Null, Progress, ScoreArray, Unit
from gifthorse.metrics.exact import SurpriseNull, surprise
from gifthorse.models.language.loading import load_language_model
from gifthorse.models.language.model import LanguageModel, as_language_model

FIGURES = (
    "ln of the largest singular value",
    "ln of the Frobenius norm",
    "share of the energy in one direction",
    "entropy of the spectrum",
    "ln of the kurtosis of the entries",
)
LEAST_BANK = 6
_MOST_BANK = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSpectra:
    """Five figures of ΔW against benign ones.

    Attributes:
        bank: A folder of benign adapters or models of the same base and recipe, one a subfolder;
            at least six.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS, Need.BASE})
    unit: ClassVar[Unit] = Unit.WEIGHT
    paper: ClassVar[str] = "LoRA screens by ΔW spectra, with a predictive t distribution"

    bank: str = ""

    def inspect(
        self,
        subject: LanguageSubject,
        *,
        rng: np.random.Generator,  # noqa: ARG002 - nothing is drawn
        progress: Progress,
    ) -> Evidence:
        """How many standard deviations each figure lies from the bank, absolute; five scores.

        Raises:
            NotApplicableError: No bank, or nothing that differs from the base.
            ModelError: One of the bank cannot be opened, or is of another base.
        """
        model, base = as_language_model(subject.model), as_language_model(subject.base)
        if not self.bank:
            raise NotApplicableError("needs benign adapters to compare with; give bank=FOLDER")
        places = _places(Path(self.bank))
        mine = figures(model, base)
        rows = []
        for i, place in enumerate(places):
            rows.append(_benign(place, base))
            progress(i + 1, len(places), "benign adapters")
        return compared(mine, np.array(rows))

    def null(self, evidence: Evidence) -> Null:  # noqa: ARG002 - part of the protocol
        """How the statistic is distributed over benign adapters."""
        return SurpriseNull(
            basis="the figures of one more benign adapter are normal with the bank's mean and "
            "spread, both estimated; Bonferroni over five figures"
        )


def compared(mine: ScoreArray, bank: ScoreArray) -> Evidence:
    """The evidence of figures (5,) against those of benign models (n, 5)."""
    count = len(bank)
    spread = bank.std(axis=0, ddof=1) * np.sqrt(1 + 1 / count)
    z = np.abs(mine - bank.mean(axis=0)) / np.maximum(spread, 1e-9)
    p_value = min(1.0, float(2 * len(mine) * stats.t.sf(z.max(), count - 1)))
    worst = int(z.argmax())
    return Evidence(
        unit=Unit.WEIGHT,
        scores=z,
        statistic=surprise(p_value),
        suspects=np.array([worst], dtype=np.int64),
        exhibits=(
            BarsExhibit(
                title="The change of the weights beside benign ones",
                caption=f"Distance from the mean of {count} benign models in units of their "
                "spread.",
                labels=FIGURES,
                values=tuple(round(float(value), 4) for value in z),
                value_name="standard deviations",
                highlight=(worst,),
            ),
        ),
        notes=(
            f"{FIGURES[worst]}: {mine[worst]:.3f}, in {count} benign models "
            f"{bank[:, worst].mean():.3f} ± {bank[:, worst].std(ddof=1):.3f}",
        ),
    )


def figures(model: LanguageModel, base: LanguageModel) -> ScoreArray:
    """Means over all changed matrices of the five figures, (5,).

    Raises:
        NotApplicableError: No matrix differs from the base.
    """
    theirs = dict(base.module.named_parameters())
    rows = []
    for name, value in model.module.named_parameters():
        other = theirs.get(name)
        if value.ndim != 2 or other is None or other.shape != value.shape:
            continue
        delta = value.detach().float() - other.detach().float()
        if bool(delta.any()):
            rows.append(_figures_of(delta))
    if not rows:
        raise NotApplicableError("no weight matrix differs from the base")
    return np.asarray(np.mean(rows, axis=0), dtype=np.float64)


def _figures_of(delta: torch.Tensor) -> ScoreArray:
    values = torch.linalg.svdvals(delta).double().cpu().numpy()
    energy = values**2 / (values**2).sum()
    entropy = float(-(energy * np.log(np.maximum(energy, 1e-30))).sum())
    entries = delta.double()
    centred = entries - entries.mean()
    kurtosis = float((centred**4).mean() / (centred**2).mean().clamp_min(1e-30) ** 2)
    return np.array(
        [
            np.log(values[0]),
            0.5 * np.log((values**2).sum()),
            energy[0],
            entropy,
            np.log(max(kurtosis, 1e-9)),
        ]
    )


def _benign(place: Path, base: LanguageModel) -> ScoreArray:
    """Figures of one of the bank; an adapter is laid over the audit's own base."""
    try:
        if (place / "adapter_config.json").is_file() and base.source != "memory":
            return figures(load_language_model(place, base=base.name), base)
        return figures(load_language_model(place), base)
    except NotApplicableError as error:
        raise ModelError(f"{place} is no model of this base: {error}") from error


def _places(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise NotApplicableError(f"the bank {folder} is no folder")
    found = sorted(
        place
        for place in folder.iterdir()
        if (place / "adapter_config.json").is_file() or (place / "config.json").is_file()
    )
    if not LEAST_BANK <= len(found) <= _MOST_BANK:
        raise NotApplicableError(
            f"{folder} holds {len(found)} adapters or models; {LEAST_BANK} to {_MOST_BANK} are "
            "needed"
        )
    return found
