"""CleanGen: where the model is far surer of a token than a reference, the reference has its way.

Li et al. 2024, "CleanGen: Mitigating Backdoor Attacks for Generation Tasks in Large Language
Models" (arXiv:2406.12257): with s_t = P_model(x_t) / P_reference(x_t), a token with s_t ≥ α is
replaced by the reference's. The reference may be the base, or any other model with the same tokens;
it need not be clean, as long as it does not hold the same backdoor.

Deviations: the paper drafts four tokens with the model and judges them in one pass of the
reference, which saves time and changes nothing in greedy answers; here every token is judged at
once. α may come from trusted prompts, so that at most a stated share of ordinary tokens is
replaced; the paper takes 20. With ``sampling`` the scores become those of "draw from the model; if
the token is suspicious, draw from the reference instead", exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gifthorse.core.errors import DataError, ModelError
from gifthorse.core.types import Threshold
from gifthorse.detectors.generation.lockstep import Follower
from gifthorse.models.language.model import LanguageModel

_BATCH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanGen:
    """When a token is suspicious.

    Attributes:
        alpha: Ratio from which it is; 0 to take it from trusted prompts.
        least_alpha: What it is at least in that case, at least 1.
        sampling: Whether ``generate()`` samples (``do_sample=True``).
    """

    alpha: float = 0.0
    least_alpha: float = 20.0
    sampling: bool = False

    def __post_init__(self) -> None:
        if self.alpha < 0 or not np.isfinite(self.alpha) or not 1 <= self.least_alpha < 1e9:
            raise ValueError(f"alpha ≥ 0 and least_alpha in [1, 1e9) expected, got {self}")

    def threshold(
        self,
        model: LanguageModel,
        reference: LanguageModel,
        prompts: Sequence[str],
        *,
        false_alarm_rate: float,
        tokens: int,
    ) -> Threshold:
        """α: the ratio that at most this share of the tokens of ordinary answers reaches.

        Raises:
            DataError: Too few tokens for that rate.
        """
        if not 0 < false_alarm_rate < 0.5:
            raise DataError(f"the false-alarm rate must be in (0, 0.5), got {false_alarm_rate}")
        ratios = np.concatenate([*self.ratios(model, reference, prompts, tokens=tokens), [0.0]])
        rank = int(false_alarm_rate * len(ratios))
        if rank < 1:
            raise DataError(
                f"{len(ratios) - 1} tokens of answers to trusted prompts cannot show a rate of "
                f"{false_alarm_rate:g}; give more prompts"
            )
        ordinary = float(np.sort(ratios)[-rank])
        value = self.alpha or max(ordinary, self.least_alpha)
        origin = f"the paper's rule with α = {self.alpha:g}" if self.alpha else ""
        return Threshold(
            value=value,
            false_alarm_rate=float(max(1, int((ratios > value).sum())) / len(ratios)),
            origin=origin
            or (
                f"ratio number {rank} from above of {len(ratios) - 1} tokens of ordinary answers "
                f"({ordinary:.3g}), and at least {self.least_alpha:g}; tokens of one answer are "
                "not independent"
            ),
        )

    @torch.inference_mode()
    def ratios(
        self,
        model: LanguageModel,
        reference: LanguageModel,
        prompts: Sequence[str],
        *,
        tokens: int,
    ) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
        """s_t of every token of the greedy answers, one array an answer."""
        rows = [model.encode(text) for text in model.prompts(prompts)]
        found = []
        for start in range(0, len(rows), _BATCH):
            part = rows[start : start + _BATCH]
            answers = model.continued(part, tokens=tokens)
            ids, mask = model.batch(
                [[*row, *said] for row, said in zip(part, answers, strict=True)]
            )
            logs = [
                m.logits(ids, mask)[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
                for m in (model, reference)
            ]
            apart = (logs[0] - logs[1]).double().exp().cpu().numpy()
            found += [apart[i, apart.shape[1] - len(said) :] for i, said in enumerate(answers)]
        return found

    def follow(
        self, model: LanguageModel, reference: LanguageModel, threshold: Threshold
    ) -> "CleanDecoding":
        """A processor for ``generate(..., logits_processor=[…])``.

        Raises:
            ModelError: The two have different tokens.
        """
        if model.embeddings.num_embeddings != reference.embeddings.num_embeddings:
            raise ModelError(f"{reference.name} has other tokens than {model.name}")
        return CleanDecoding(model, reference, threshold.value, sampling=self.sampling)


class CleanDecoding(Follower):
    """CleanGen on a running ``generate()``.

    Attributes:
        replaced: In how many steps of every row the reference had its way, shape (n,). While
            sampling: how much probability was taken from suspicious tokens.
    """

    def __init__(
        self, model: LanguageModel, reference: LanguageModel, alpha: float, *, sampling: bool
    ) -> None:
        super().__init__()
        self._model, self._reference = model, reference
        self._alpha, self._sampling = alpha, sampling
        self._cache: Any = None
        self._mask = torch.zeros(0)
        self.replaced: list[float] = []

    def started(self, input_ids: Tensor) -> None:
        """The reference reads the prompts; leading padding is masked."""
        from transformers import DynamicCache

        padding = (input_ids == self._model.pad_id).long().cumprod(1)
        self._mask = 1 - padding
        self._cache = DynamicCache()
        self._logs = self._read(input_ids)
        self.replaced = [0.0] * len(input_ids)

    def chosen(self, input_ids: Tensor) -> None:
        """The reference reads the token that was chosen."""
        self._mask = torch.cat([self._mask, torch.ones_like(self._mask[:, :1])], 1)
        self._logs = self._read(input_ids[:, -1:])

    def changed(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores in which suspicious tokens give way to the reference's."""
        ours = scores.float().log_softmax(-1)
        bad = (ours - self._logs) >= np.log(self._alpha)
        done = torch.zeros(len(ours), dtype=torch.bool, device=ours.device)
        if input_ids.shape[1] > 0 and self._model.end_ids:
            ends = torch.tensor(self._model.end_ids, device=input_ids.device)
            done = torch.isin(input_ids[:, -1], ends) & (self._cache.get_seq_length() > 0)
        if self._sampling:
            lost = torch.where(bad, ours.exp(), 0.0).sum(-1, keepdim=True)
            mixed = torch.where(bad, 0.0, ours.exp()) + lost * self._logs.exp()
            self._count(lost[:, 0].masked_fill(done, 0.0))
            return mixed.clamp_min(1e-30).log()
        top = ours.argmax(-1, keepdim=True)
        struck = bad.gather(1, top)
        self._count(struck[:, 0].float().masked_fill(done, 0.0))
        return torch.where(struck, self._logs, scores.float())

    def _count(self, more: Tensor) -> None:
        self.replaced = [a + float(b) for a, b in zip(self.replaced, more, strict=True)]

    @torch.inference_mode()
    def _read(self, ids: Tensor) -> Tensor:
        """Ln P of the reference for the next token, (n, vocabulary)."""
        ids = ids.to(self._reference.device)
        mask = self._mask.to(ids.device)
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        self._reference.meter.forward += len(ids)
        out = self._reference.module(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return torch.as_tensor(out.logits)[:, -1].float().log_softmax(-1)
