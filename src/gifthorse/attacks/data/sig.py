"""SIG: a faint sinusoid over samples of the target class; no label is changed.

Source: Barni, Kallas, Tondi 2019, "A New Backdoor Attack in CNNs by Training Set Corruption
Without Label Poisoning" (ICIP 2019, arXiv:1902.11237), sections 3 and 4. As there, the wave may be
stronger in use than in training. The paper poisons 20 to 50 % of the target class; ``rate`` counts
the whole training set, so with ten classes 0.05 is half of the class.

Beyond the paper: ``clean_label=false`` gives the samples the target label.
"""

from dataclasses import dataclass
from typing import ClassVar

from gifthorse.attacks.data.trigger_poison import TriggerPoison
from gifthorse.triggers.sinusoid import Sinusoid


@dataclass(frozen=True, slots=True, kw_only=True)
class Sig(TriggerPoison):
    """Sinusoidal poisoning.

    Attributes:
        target: Class index that triggered pictures shall get.
        rate: Poisoned samples as a share of the training set, in (0, 1).
        mode: ``all-to-one``, ``all-to-all`` or ``source-specific``.
        source: Class index struck in ``source-specific`` mode.
        cover_rate: Share of cover samples in ``source-specific`` mode.
        clean_label: Wave over target-class samples only, and change no label.
        amplitude: Of the wave in training, in (0, 1]; the paper's Δ divided by 255.
        test_amplitude: Of the wave in use, in (0, 1].
        frequency: Periods over the width of the picture, > 0.
    """

    name: ClassVar[str] = "sig"
    paper: ClassVar[str] = "Barni et al. 2019, arXiv:1902.11237"

    rate: float = 0.03
    clean_label: bool = True
    amplitude: float = 40 / 255
    test_amplitude: float = 60 / 255
    frequency: float = 6.0

    @property
    def trigger(self) -> Sinusoid:
        """The wave in training."""
        return Sinusoid(amplitude=self.amplitude, frequency=self.frequency)

    @property
    def test_trigger(self) -> Sinusoid:
        """The wave in use."""
        return Sinusoid(amplitude=self.test_amplitude, frequency=self.frequency)
