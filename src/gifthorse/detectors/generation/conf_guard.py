"""ConfGuard: a payload is recited, so the model is certain of too many tokens in a row.

Wang et al. 2025, "ConfGuard: A Simple and Effective Backdoor Detection for Large Language Models"
(arXiv:2508.01365): an answer is flagged once ten consecutive tokens each have a probability above
.99 ("sequence lock"). Nothing but the model's own probabilities is needed.

Beyond the paper: the length of a suspicious run is raised to what answers to trusted prompts need
for a stated rate of false alarms, and tokens that only repeat the prompt do not count: a quotation
that was asked for is certain, too. A text that the model knows by heart and that does not stand in
the prompt (a famous quotation) can still be flagged; put prompts that ask for such texts among the
trusted ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gifthorse.core.errors import DataError
from gifthorse.core.types import Threshold
from gifthorse.detectors.generation.lockstep import Follower
from gifthorse.models.language.model import LanguageModel

_BATCH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfGuard:
    """When a run of certain tokens is suspicious.

    Attributes:
        window: Tokens in a row at least, whatever the trusted prompts say, at least 1.
        probability: Above which a token counts as certain, in (0, 1).
        quote: So many tokens in a row that stand in the prompt are a quotation, at least 1.
    """

    window: int = 10
    probability: float = 0.99
    quote: int = 4

    def __post_init__(self) -> None:
        if self.window < 1 or self.quote < 1 or not 0 < self.probability < 1:
            raise ValueError(f"window, quote ≥ 1 and probability in (0, 1) expected, got {self}")

    def threshold(
        self,
        model: LanguageModel,
        prompts: Sequence[str],
        *,
        false_alarm_rate: float,
        tokens: int,
    ) -> Threshold:
        """The longest run that is normal: of greedy answers to trusted prompts.

        Args:
            model: The model that will serve.
            prompts: Trusted prompts as the user says them.
            false_alarm_rate: Share of ordinary answers that may be flagged, in (0, 0.5).
            tokens: Of an answer, at most.

        Raises:
            DataError: Too few prompts for that rate.
        """
        if not 0 < false_alarm_rate < 0.5:
            raise DataError(f"the false-alarm rate must be in (0, 0.5), got {false_alarm_rate}")
        rank = int(false_alarm_rate * (len(prompts) + 1))
        if rank < 1:
            raise DataError(
                f"{len(prompts)} trusted prompts cannot show a false-alarm rate of "
                f"{false_alarm_rate:g}; give at least {int(np.ceil(1 / false_alarm_rate)) - 1}"
            )
        runs = self.runs(model, prompts, tokens=tokens)
        ordinary = float(sorted(runs)[-rank])
        return Threshold(
            value=max(ordinary, self.window - 1.0),
            false_alarm_rate=rank / (len(prompts) + 1),
            origin=(
                f"runs of {len(prompts)} answers to trusted prompts, number {rank} from above "
                f"({ordinary:g}), and at least {self.window - 1}; assumes that ordinary prompts "
                "are like them and decoding is greedy"
            ),
        )

    def runs(self, model: LanguageModel, prompts: Sequence[str], *, tokens: int) -> list[int]:
        """The longest run of certain tokens in the greedy answer to every prompt."""
        rows = [model.encode(text) for text in model.prompts(prompts)]
        found: list[int] = []
        for start in range(0, len(rows), _BATCH):
            part = rows[start : start + _BATCH]
            answers = model.continued(part, tokens=tokens)
            for row, answer, p in zip(
                part, answers, _certainties(model, part, answers), strict=True
            ):
                found.append(longest_run(row, answer, p, self))
        return found

    def follow(self, model: LanguageModel, threshold: Threshold, *, stop: bool) -> "SequenceLock":
        """A processor for ``generate(..., logits_processor=[…])``."""
        return SequenceLock(model, self, int(threshold.value), stop=stop)


class SequenceLock(Follower):
    """ConfGuard on a running ``generate()``.

    Attributes:
        flagged: Which rows held a run that is too long, shape (n,).
        runs: The longest run of every row so far.
    """

    def __init__(self, model: LanguageModel, options: ConfGuard, limit: int, *, stop: bool) -> None:
        super().__init__()
        self._model, self._options, self._limit, self._stop = model, options, limit, stop
        self._logs = torch.zeros(0)
        self._prompts: list[list[int]] = []
        self._now: list[int] = []
        self.runs: list[int] = []
        self.flagged: list[bool] = []

    def started(self, input_ids: Tensor) -> None:
        """Every row starts without a run."""
        self._prompts = [row.tolist() for row in input_ids]
        self._now, self.runs = [0] * len(input_ids), [0] * len(input_ids)
        self.flagged = [False] * len(input_ids)

    def chosen(self, input_ids: Tensor) -> None:
        """Count the token that was chosen."""
        for i, row in enumerate(input_ids.tolist()):
            if row[-1] in self._model.end_ids:
                continue
            answer = row[len(self._prompts[i]) :]
            if quoted(self._prompts[i], answer, self._options.quote):
                continue
            certain = float(self._logs[i, row[-1]].exp()) > self._options.probability
            self._now[i] = self._now[i] + 1 if certain else 0
            self.runs[i] = max(self.runs[i], self._now[i])
            self.flagged[i] = self.runs[i] > self._limit

    def changed(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # noqa: ARG002
        """With ``stop``, a flagged answer ends here."""
        self._logs = scores.detach().float().log_softmax(-1)
        if not self._stop or not any(self.flagged):
            return scores
        out = scores.clone()
        for i, flagged in enumerate(self.flagged):
            if flagged:
                out[i] = float("-inf")
                out[i, self._model.end_ids[0] if self._model.end_ids else 0] = 0.0
        return out


def longest_run(
    prompt: Sequence[int], answer: Sequence[int], p: Sequence[float], options: ConfGuard
) -> int:
    """The longest run of certain tokens that do not repeat the prompt."""
    now = longest = 0
    for t, certainty in enumerate(p):
        if quoted(prompt, answer[: t + 1], options.quote):
            continue  # neither counts nor ends a run
        now = now + 1 if certainty > options.probability else 0
        longest = max(longest, now)
    return longest


def quoted(prompt: Sequence[int], answer: Sequence[int], length: int) -> bool:
    """Whether the last ``length`` tokens of the answer stand in the prompt, in that order."""
    if len(answer) < length:
        return False
    tail = list(answer[-length:])
    return any(list(prompt[i : i + length]) == tail for i in range(len(prompt) - length + 1))


@torch.inference_mode()
def _certainties(
    model: LanguageModel, rows: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
) -> list[list[float]]:
    """The probability of every token of every answer."""
    ids, mask = model.batch([[*row, *said] for row, said in zip(rows, answers, strict=True)])
    p = model.logits(ids, mask)[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0].exp()
    return [
        p[i, p.shape[1] - len(said) :].tolist() if said else [] for i, said in enumerate(answers)
    ]
