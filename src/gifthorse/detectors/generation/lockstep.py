"""What guards of generation share: one call of ``generate()`` followed token by token."""

import torch
from torch import Tensor
from transformers import LogitsProcessor

from gifthorse.core.errors import ModelError


class Follower(LogitsProcessor):  # type: ignore[misc]
    """Follows ``generate()`` of one model; a new call starts anew by itself.

    A subclass implements ``started`` (the prompts are known) and ``step`` (one more token was
    chosen in every row). Beams are refused: they change rows while they are followed.
    """

    def __init__(self) -> None:
        self._seen: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The scores that the next token is chosen by, shape (n, vocabulary)."""
        before = self._seen
        if before is None or input_ids.shape[1] != before.shape[1] + 1:
            self.started(input_ids)
        elif input_ids.shape[0] != before.shape[0] or not torch.equal(input_ids[:, :-1], before):
            raise ModelError("a guard of generation cannot follow beams; use num_beams=1")
        else:
            self.chosen(input_ids)
        self._seen = input_ids.clone()
        return self.changed(input_ids, scores)

    def started(self, input_ids: Tensor) -> None:
        """The prompts (n, length), padded on the left."""
        raise NotImplementedError

    def chosen(self, input_ids: Tensor) -> None:
        """One more token was chosen in every row: the last column."""
        raise NotImplementedError

    def changed(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """What the guard makes of the scores of the next token."""
        raise NotImplementedError
