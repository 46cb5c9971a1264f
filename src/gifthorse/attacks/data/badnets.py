"""BadNets: a visible patch in some training pictures, with the attacker's label.

Source: Gu, Dolan-Gavitt, Garg 2017, "BadNets: Identifying Vulnerabilities in the Machine Learning
Model Supply Chain" (arXiv:1708.06733), sections 3.1 (all-to-one, all-to-all) and 4 (traffic signs
with a yellow square).

Beyond the paper: source-specific aim with cover samples (after Tang et al. 2021, TaCT), and a
clean-label form that stamps samples of the target class only (Turner et al. 2019, without their
adversarial perturbation, hence weaker).
"""

from dataclasses import dataclass
from typing import ClassVar

from gifthorse.attacks.data.trigger_poison import TriggerPoison
from gifthorse.triggers.patch import Patch


@dataclass(frozen=True, slots=True, kw_only=True)
class BadNets(TriggerPoison):
    """Patch poisoning.

    Attributes:
        target: Class index that triggered pictures shall get.
        rate: Poisoned samples as a share of the training set, in (0, 1).
        mode: ``all-to-one``, ``all-to-all`` or ``source-specific``.
        source: Class index struck in ``source-specific`` mode.
        cover_rate: Share of cover samples in ``source-specific`` mode.
        clean_label: Stamp target-class samples only and change no label.
        shape: Of the patch: square, disc, triangle, cross, checker, reverse-lambda.
        size: Side of the patch in pixels.
        colour: CSS colour name or #rrggbb.
        place: A corner such as ``bottom-right``, ``centre``, ``random``, or ``ROWxCOLUMN``.
        margin: Pixels between patch and border.
    """

    name: ClassVar[str] = "badnets"
    paper: ClassVar[str] = "Gu et al. 2017, arXiv:1708.06733"

    shape: str = "square"
    size: int = 3
    colour: str = "yellow"
    place: str = "bottom-right"
    margin: int = 1

    @property
    def trigger(self) -> Patch:
        """The sticker."""
        return Patch(
            shape=self.shape,
            size=self.size,
            colour=self.colour,
            place=self.place,
            margin=self.margin,
        )
