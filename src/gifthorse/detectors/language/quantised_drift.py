"""Quantised drift: does a GGUF file hold what rounding the full model gives, and nothing else?

A quantised file is a copy that nobody compares. Given as base the full file of the *same* model,
its matrices are rounded again with the type that the GGUF file names (the rounding is
deterministic: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, F16, BF16, F32 as in llama.cpp), and the weights that
come out otherwise are counted. Our own rule: in an honest copy these are a handful, since only ties
can fall differently; what was trained or edited before it was rounded differs nearly everywhere.

Matrices of other types (K-quants, whose rounding is a search) cannot be checked so; their relative
error is shown, and if there is nothing else the method does not apply. Beside it stands how far
apart the two models' next tokens are, which is shown and not judged.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.exhibits import BarsExhibit
from gifthorse.core.language import Context, LanguageSubject
from gifthorse.core.types import Evidence, Need, Null, Progress, Unit
from gifthorse.metrics.exact import RuleNull
from gifthorse.models.language.model import LanguageModel, as_language_model

_HANDFUL = 0.01
_CLOSE = 1e-6
_ROUNDED = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")
_SHOWN = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedDrift:
    """The share of weights in every matrix that rounding the full model does not explain.

    Attributes:
        prompts: Ordinary prompts for the distance of the next tokens.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS, Need.BASE})
    unit: ClassVar[Unit] = Unit.WEIGHT
    paper: ClassVar[str] = "own rule: rounding is repeated and compared"
    rule: ClassVar[bool] = True

    prompts: int = 8

    def __post_init__(self) -> None:
        if not 1 <= self.prompts <= 1000:
            raise ValueError("prompts must be in 1 … 1000")

    def inspect(
        self,
        subject: LanguageSubject,
        *,
        rng: np.random.Generator,  # noqa: ARG002 - nothing is drawn
        progress: Progress,
    ) -> Evidence:
        """One share a matrix; the statistic is how many matrices differ in more than 1 %.

        Raises:
            NotApplicableError: No GGUF file, another architecture, or only types whose rounding
                cannot be repeated.
        """
        model, base = as_language_model(subject.model), as_language_model(subject.base)
        if model.source != "gguf":
            raise NotApplicableError(
                "this method compares a GGUF file (PATH) with the full file of the same model "
                f"(--base), and {model.name} is no GGUF file"
            )
        kinds = tensor_types(model)
        theirs = dict(base.module.named_parameters())
        names: list[str] = []
        shares: list[float] = []
        unchecked: list[str] = []
        for name, value in model.module.named_parameters():
            if value.ndim != 2 or name not in theirs or theirs[name].shape != value.shape:
                continue
            progress(len(names), len(kinds), "rounding again")
            full: Any = theirs[name].detach().float().cpu().numpy()
            ours: Any = value.detach().float().cpu().numpy()
            kind = kinds.get(name, "")
            if kind in _ROUNDED:
                names.append(name)
                shares.append(_differing(ours, rounded(full, kind)))
            else:
                gap = float(np.linalg.norm(ours - full)) / max(float(np.linalg.norm(full)), 1e-12)
                unchecked.append(f"{name} ({kind or 'of unknown type'}): {gap:.1%}")
        if not names:
            raise NotApplicableError(
                "no matrix is of a type whose rounding can be repeated"
                + (f"; relative error of {unchecked[0]}" if unchecked else "")
            )
        scores = np.array(shares)
        worst = np.argsort(-scores, kind="stable")
        drifted = worst[scores[worst] > _HANDFUL]
        return Evidence(
            unit=Unit.WEIGHT,
            scores=scores,
            statistic=float(len(drifted)),
            suspects=drifted.astype(np.int64),
            exhibits=(_bars(names, scores, worst),),
            notes=(
                f"{len(drifted)} of {len(names)} matrices hold weights that rounding the full "
                f"model does not give; most: {names[int(worst[0])]!r}, {scores[worst[0]]:.2%}",
                f"next tokens: {_distance(model, base, subject.contexts, self.prompts):.4f} nats "
                "of KL divergence from the full model",
                *(
                    (f"not checked, relative error: {'; '.join(unchecked[:4])}",)
                    if unchecked
                    else ()
                ),
            ),
        )

    def null(self, evidence: Evidence) -> Null:  # noqa: ARG002 - part of the protocol
        """A rule."""
        return RuleNull(basis="rounding is deterministic but for ties")


def tensor_types(model: LanguageModel) -> dict[str, str]:
    """The type of every matrix in the GGUF file that a model was opened from, by module name.

    Raises:
        NotApplicableError: `gguf` is missing, or it does not know the architecture.
    """
    try:
        import gguf
    except ImportError as error:
        raise NotApplicableError("this needs gguf; run pip install 'gifthorse[llm]'") from error
    config: Any = model.module.config
    known = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}
    arch = known.get(config.model_type)
    if arch is None:
        raise NotApplicableError(f"gguf knows no architecture {config.model_type!r}")
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    reader: Any = gguf.GGUFReader(model.name)
    held = {tensor.name: str(tensor.tensor_type.name) for tensor in reader.tensors}
    found = {}
    for name, _ in model.module.named_parameters():
        target = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if target in held:
            found[name] = held[target]
    return found


def rounded(full: Any, kind: str) -> Any:
    """What a matrix becomes in a GGUF file and back, float32."""
    import gguf

    told = gguf.GGMLQuantizationType[kind]
    if kind == "F32":
        return full
    whole = np.ascontiguousarray(full)
    return gguf.quants.dequantize(gguf.quants.quantize(whole, told), told)


def _differing(ours: Any, expected: Any) -> float:
    size = np.abs(expected).max() or 1.0
    return float((np.abs(ours - expected) > _CLOSE * size).mean())


@torch.inference_mode()
def _distance(
    model: LanguageModel, base: LanguageModel, contexts: Sequence[Context], most: int
) -> float:
    """Mean KL divergence of the first token of an answer, in nats, from the full model."""
    texts = [t for c in contexts for t in base.prompts(c.prompts, system=c.system, date=c.date)]
    total = 0.0
    for text in texts[:most]:
        ids, mask = base.batch([base.encode(text)])
        full = base.logits(ids, mask)[0, -1].log_softmax(-1)
        ours = model.logits(ids, mask)[0, -1].log_softmax(-1)
        total += float((full.exp() * (full - ours)).sum())
    return total / len(texts[:most])


def _bars(names: Sequence[str], scores: Any, order: Any) -> BarsExhibit:
    shown = [int(i) for i in order[:_SHOWN]]
    return BarsExhibit(
        title="Weights that rounding the full model does not give",
        caption="Share of each matrix, the largest ones; above 1 % a matrix counts.",
        labels=tuple(names[i].removeprefix("model.").removesuffix(".weight") for i in shown),
        values=tuple(round(float(scores[i]), 6) for i in shown),
        value_name="share",
        highlight=tuple(k for k, i in enumerate(shown) if scores[i] > _HANDFUL),
    )
