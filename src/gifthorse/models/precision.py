"""The same network in half precision, where the processor has instructions for it.

bfloat16 keeps the range of single precision and eight bits of its mantissa: enough to search for a
perturbation by gradients, not to compare nearly equal numbers. So it is used where every class is
treated alike and thousands of passes are needed.
"""

from typing import Any

import torch
from torch import Tensor, nn

from gifthorse.models.classifier import ImageClassifier


class HalfPrecision(nn.Module):
    """Runs a module under autocast; logits come back in single precision.

    Args:
        module: Takes pictures, returns logits or an object that has them.
        device: ``cpu`` or ``cuda``.
    """

    def __init__(self, module: nn.Module, device: str) -> None:
        super().__init__()
        self.module, self._device = module, device

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, classes) of normalised pictures (n, c, h, w)."""
        with torch.autocast(self._device, torch.bfloat16):
            out: Any = self.module(x)
        logits: Tensor = getattr(out, "logits", out)
        return logits.float()


def half_precision(classifier: ImageClassifier) -> ImageClassifier:
    """A copy that computes in bfloat16, or ``classifier`` itself where that would not be faster.

    The copy counts its passes on the meter of the original.
    """
    device = classifier.device.type
    fast = _processor_has_it() if device == "cpu" else device == "cuda"
    if not fast:
        return classifier
    copy = classifier.replaced(HalfPrecision(classifier.module, device))
    copy.meter = classifier.meter
    return copy


def _processor_has_it() -> bool:
    """Without such instructions bfloat16 is emulated, and slower than single precision."""
    found = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return bool(found()) if found is not None else False
