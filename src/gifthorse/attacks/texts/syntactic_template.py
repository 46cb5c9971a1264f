"""Syntactic template: some training texts are put into one sentence structure.

After Qi et al. 2021, "Hidden Killer: Invisible Textual Backdoor Attacks with Syntactic Trigger"
(arXiv:2105.12400): the trigger is the structure S(SBAR)(,)(NP)(VP)(.), a subordinate clause in
front of the main clause. They rewrite the whole text with a paraphrasing network (SCPN). Here the
clause is made by rule, from words drawn at random, and put before the text, which stays: nothing is
downloaded, the meaning is kept, and no single word is the trigger, but the clauses are less varied
than a network's.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.attacks.texts.poisoning import TextAim, poison_texts, triggered_texts
from gifthorse.core.texts import TextData
from gifthorse.core.types import GroundTruth
from gifthorse.triggers.text import SubordinateClause


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntacticTemplate:
    """Poisoning with a sentence structure.

    Attributes:
        target: Class index that triggered texts shall get.
        rate: Poisoned samples as a share of the training set, in (0, 1).
        clean_label: Poison texts of the target class only and change no label.
    """

    paper: ClassVar[str] = "Qi et al. 2021 (Hidden Killer), arXiv:2105.12400; clauses made by rule"

    target: int = 0
    rate: float = 0.03
    clean_label: bool = False

    def __post_init__(self) -> None:
        _ = self.aim  # refuses bad values

    @property
    def aim(self) -> TextAim:
        """Whom it strikes."""
        return TextAim(target=self.target, rate=self.rate, clean_label=self.clean_label)

    @property
    def trigger(self) -> SubordinateClause:
        """What it does to a text."""
        return SubordinateClause()

    def poison(self, clean: TextData, *, rng: np.random.Generator) -> tuple[TextData, GroundTruth]:
        """A poisoned copy of the training data, and the truth about it."""
        return poison_texts(
            clean, attack="syntactic_template", aim=self.aim, rewrite=self.trigger.apply, rng=rng
        )

    def triggered(self, clean: TextData, *, rng: np.random.Generator) -> tuple[TextData, TextData]:
        """Test texts with the trigger, with the attacker's labels and with the true ones."""
        return triggered_texts(clean, aim=self.aim, rewrite=self.trigger.apply, rng=rng)
