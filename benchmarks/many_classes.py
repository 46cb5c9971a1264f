"""How the time of a model audit grows with the number of classes; draws docs/many-classes.svg.

    python benchmarks/many_classes.py [--classes 10 32 100 316 1000] [--rounds 1] [--svg FILE]

The same small network (32×32 pixels, random filters) with a head that knows more and more classes:
every class is a pattern, and the head compares features with the mean of its class. So nothing but
the number of classes differs from point to point. Up to 32 classes each is searched in full;
beyond, the easiest sinks are found whatever the number of classes. Seconds are the processor's,
and passes are counted too: neither depends much on how busy the machine is.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from gifthorse.auditing.audit import audit
from gifthorse.core.record import AuditRecord
from gifthorse.data.images import ArrayImages
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.networks import small_network

SIDE = 32


class NearestMean(nn.Module):
    """Random features, then the class whose mean is nearest."""

    def __init__(self, body: ImageClassifier, means: torch.Tensor, scale: torch.Tensor) -> None:
        super().__init__()
        self.body, self.scale = body.module, nn.Buffer(scale)
        self.head = nn.Linear(means.shape[1], len(means))
        with torch.no_grad():
            self.head.weight.copy_(means)
            self.head.bias.copy_(-(means**2).sum(1) / 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        caught: list[torch.Tensor] = []
        layer = next(m for m in self.body.modules() if isinstance(m, nn.Linear))
        handle = layer.register_forward_pre_hook(lambda _m, given: caught.append(given[0]))
        self.body(x)
        handle.remove()
        return self.head(caught[0].flatten(1) * self.scale)


def known(classes: int) -> tuple[ImageClassifier, ArrayImages]:
    """A classifier of so many classes, and pictures of them."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand((classes, 3, 4, 4), generator=generator)
    patterns = functional.interpolate(coarse, (SIDE, SIDE), mode="bicubic").clamp(0, 1)
    names = tuple(f"pattern {i}" for i in range(classes))
    body = small_network(image_shape=(3, SIDE, SIDE), class_names=("a", "b"), seed=0, width=16)
    with torch.inference_mode():
        features = body.logits_and_features(patterns)[1]
    scale = 1 / features.std(0).clamp(min=1e-6)
    network = ImageClassifier(
        NearestMean(body, features * scale, scale),
        class_names=names,
        preprocessing=body.preprocessing,
        name=f"{classes} classes",
    )
    labels = np.arange(max(200, classes), dtype=np.int64) % classes
    pixels = patterns[labels] + 0.05 * torch.randn(
        (len(labels), 3, SIDE, SIDE), generator=generator
    )
    data = ArrayImages.from_floats(
        pixels.clamp(0, 1).numpy(), labels, name="patterns", class_names=names
    )
    return network, data


def measured(classes: int, rounds: int) -> tuple[float, AuditRecord]:
    """Median processor seconds of the shipped audit, and its last record."""
    network, data = known(classes)
    seconds = []
    for seed in range(rounds):
        start = time.process_time()
        record = audit(network, trusted=data, seed=seed)
        seconds.append(time.process_time() - start)
    return float(np.median(seconds)), record


def draw(path: Path, counts: list[int], seconds: list[float], passes: list[int]) -> None:
    """Two panels: seconds and pictures that a gradient was taken through."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "many-classes"
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(8, 3))
    for panel, values, title in (
        (panels[0], seconds, "processor seconds"),
        (panels[1], [p / 1000 for p in passes], "thousand backward passes"),
    ):
        panel.plot(counts, values, "o-", label="measured")
        line = [values[0] * count / counts[0] for count in counts]
        panel.plot(counts, line, ":", label="every class in full")
        panel.set(xscale="log", yscale="log", xlabel="classes", ylabel=title)
        panel.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Measure and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 32, 100, 316, 1000])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--svg", type=Path)
    options = parser.parse_args()
    seconds, passes = [], []
    for count in options.classes:
        took, record = measured(count, options.rounds)
        seconds.append(took)
        passes.append(record.cost.backward_passes)
        print(
            f"{count} classes: {took:.1f} processor seconds, "
            f"{record.cost.forward_passes:,} forward and {passes[-1]:,} backward passes, "
            f"{record.verdict}",
            flush=True,
        )
    if options.svg is not None:
        draw(options.svg, options.classes, seconds, passes)


if __name__ == "__main__":
    main()
