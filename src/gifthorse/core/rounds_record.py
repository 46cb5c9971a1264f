"""Records of federated learning: what a trial was, what happened in each round, what came of it.

The digest of a trial covers everything except times, dates and versions: equal digests mean equal
runs, bit for bit.
"""

import datetime as dt
import hashlib
import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from gifthorse.core.record import versions

Share = float


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TrialSpec(_Frozen):
    """One cell of a study, complete enough to run it again.

    ``alpha`` is the concentration of the Dirichlet split, 0 for IID. ``window`` holds the first
    round of the attack and the first one after it. ``backdoor`` is ``patch`` or ``tail``.
    """

    data: str
    network: Literal["perceptron", "cnn"] = "perceptron"
    samples: int = 0
    clients: int = 20
    per_round: int = 20
    rounds: int = 40
    alpha: float = 0.5
    seed: int = 0
    epochs: int = 2
    batch_size: int = 16
    learning_rate: float = 0.3
    trusted: int = 100
    target: int = 0
    source: int = 7
    trigger_size: int = 3
    trigger_place: str = "bottom-right"
    trigger_margin: int = 0
    attackers: int = 4
    pool: Literal["fixed", "frequency"] = "fixed"
    every: int = 1
    window: tuple[int, int] = (10, 25)
    attack: str = "none"
    backdoor: Literal["patch", "tail"] = "patch"
    defence: str = "mean"
    hostile: tuple[str, ...] = ()

    def key(self) -> str:
        """A short name that two different trials do not share."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]


class QuarantineRecord(_Frozen):
    """A reply that the gate kept out, and why."""

    client: str
    reason: str
    detail: str


class ServerRound(_Frozen):
    """One round of a real server, counted from 1.

    ``rejected`` are those whom the defence rejected, ``missing`` those who were asked and gave no
    usable answer. ``scores`` are the defence's (higher is worse), ``replies`` the SHA-256 of every
    admitted reply; ``before`` and ``after`` stand for the global model.
    """

    kind: Literal["server round"] = "server round"
    schema_version: Literal[1] = 1
    round: int
    accepted: tuple[str, ...]
    rejected: tuple[str, ...]
    quarantined: tuple[QuarantineRecord, ...]
    missing: tuple[str, ...]
    fallback: str | None
    scores: dict[str, float]
    replies: dict[str, str]
    before: str
    after: str


class RoundRecord(_Frozen):
    """One round: who took part, who was kept out, and what the global model was worth after it."""

    round: int
    clean_accuracy: Share
    attack_success: Share
    malicious: tuple[str, ...]
    accepted: tuple[str, ...]
    rejected: tuple[str, ...]
    quarantined: tuple[QuarantineRecord, ...]
    missing: tuple[str, ...]
    fallback: str | None
    replies: dict[str, str]
    model: str


class TrialRecord(_Frozen):
    """What one trial came to.

    Rates are shares in [0, 1]. ``attack_success_peak`` is the highest after any round from the
    start of the window on, ``_end`` after the last round of the window, ``_after`` 15 rounds later
    (or after the last round). Rejection rates count replies inside the window that passed the gate;
    None where there were none.
    """

    kind: Literal["federated trial"] = "federated trial"
    schema_version: Literal[1] = 1
    spec: TrialSpec
    clean_accuracy: Share
    attack_success_before: Share
    attack_success_peak: Share
    attack_success_end: Share
    attack_success_after: Share
    rejected_malicious: Share | None
    rejected_honest: Share | None
    fallbacks: int
    rounds: tuple[RoundRecord, ...]
    digest: str
    aggregation_seconds: float
    seconds: float
    created: str = Field(
        default_factory=lambda: dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    )
    versions: dict[str, str] = Field(default_factory=versions)


def rounds_digest(spec: TrialSpec, rounds: tuple[RoundRecord, ...]) -> str:
    """``sha256:…`` over what a trial is and what happened in it."""
    text = json.dumps(
        [spec.model_dump(mode="json"), [entry.model_dump(mode="json") for entry in rounds]],
        sort_keys=True,
    )
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
