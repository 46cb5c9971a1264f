"""Seconds of our model audit beside BackdoorBench's own Neural Cleanse loop, in one run.

    git clone https://github.com/SCLBD/BackdoorBench /tmp/bb
    python benchmarks/backdoorbench_nc.py /tmp/bb [--classes 2] [--threads 1]

Processor seconds, which depend less on what else runs; with --threads 1 those of a quiet clock.
Same Fashion-MNIST model, same machine, same number of threads, one after the other and repeated in
turn. Their functions ``RegressionModel``, ``Recorder``, ``train_mask`` and ``train_step`` are taken
out of ``defense/nc.py`` as they stand and run with their defaults (3,000 pictures, batches of 256,
at most 80 epochs a class, early stopping on); the rest of that file needs a GPU and other packages.
What is left out is to their advantage: pictures are tensors that are only shuffled, where their
loader opens files and augments; nothing is written. All ten classes would take ten times the mean
of those that were run; both are printed. This script runs code of that repository: look first.
"""

import argparse
import ast
import contextlib
import io
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from gifthorse.auditing.audit import audit
from gifthorse.core.types import ImageData
from gifthorse.data.images import subset
from gifthorse.data.sources import load
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.networks import small_network
from gifthorse.models.training import TrainingPlan, train

TAKEN = ("Normalize", "Denormalize", "RegressionModel", "Recorder", "train_mask", "train_step")
PICTURES = 3000
DEFAULTS = {  # config/defense/nc/config.yaml
    "mask_lr": 0.1,
    "init_cost": 1e-3,
    "atk_succ_threshold": 98.0,
    "early_stop": True,
    "early_stop_threshold": 0.99,
    "early_stop_patience": 25,
    "patience": 5,
    "cost_multiplier": 2,
    "EPSILON": 1e-7,
    "use_norm": 1,
    "nc_epoch": 80,
    "batch_size": 256,
}


class Shuffled:
    """A data loader that costs nothing but a permutation."""

    def __init__(self, x: torch.Tensor, y: torch.Tensor, size: int) -> None:
        self.x, self.y, self.size = x, y, size

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        order = torch.randperm(len(self.x))
        for start in range(0, len(order), self.size):
            rows = order[start : start + self.size]
            yield self.x[rows], self.y[rows]


def their_loop(folder: Path, module: nn.Module, options: argparse.Namespace) -> dict[str, Any]:
    """Their classes and functions, with our network where theirs would be built."""
    source = (folder / "defense" / "nc.py").read_text(encoding="utf-8")
    tree = ast.parse(source)
    tree.body = [part for part in tree.body if getattr(part, "name", None) in TAKEN]
    if len(tree.body) != len(TAKEN):
        raise SystemExit(f"{folder}/defense/nc.py does not hold {', '.join(TAKEN)}")
    nothing = types.SimpleNamespace(save_image=lambda *_, **__: None)
    space: dict[str, Any] = {
        "torch": torch,
        "nn": nn,
        "np": np,
        "args": options,
        "generate_cls_model": lambda *_: module,
        "torchvision": types.SimpleNamespace(utils=nothing),
        "os": types.SimpleNamespace(
            getcwd=lambda: "",
            makedirs=lambda *_: None,
            path=types.SimpleNamespace(exists=lambda *_: True, join=lambda *p: "/".join(p)),
        ),
    }
    exec(compile(tree, str(folder / "defense" / "nc.py"), "exec"), space)
    return space


class Answers(nn.Module):
    """Normalised pictures in, logits out, as their networks do."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.module(x)
        return getattr(out, "logits", out)


def theirs(
    folder: Path, classifier: ImageClassifier, data: ImageData, target: int
) -> tuple[float, float, int]:
    """Processor seconds, the L1 norm of the mask, and epochs, for one class."""
    rows = np.random.default_rng(0).permutation(len(data))[:PICTURES].astype(np.int64)
    x = torch.from_numpy(data.batch(rows))
    network = Answers(classifier.module)
    channels, height, width = classifier.input_shape
    options = argparse.Namespace(
        **DEFAULTS,
        device="cpu",
        dataset="mnist",  # normalised by .5 and .5, as our small network is
        input_channel=channels,
        model="ours",
        num_classes=classifier.n_classes,
        log="",
        target_label=target,
    )
    space = their_loop(folder, network, options)
    loader = Shuffled((x - 0.5) / 0.5, torch.from_numpy(data.labels[rows]), options.batch_size)
    epochs = 0
    step = space["train_step"]

    def counted(*given: Any) -> bool:
        nonlocal epochs
        epochs += 1
        return bool(step(*given))

    space["train_step"] = counted
    mask = np.ones((1, height, width), dtype=np.float32)
    pattern = np.ones((channels, height, width), dtype=np.float32)
    start = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        found, _ = space["train_mask"](
            options, {"model": network.state_dict()}, loader, mask, pattern
        )
    return time.process_time() - start, float(found.mask_best.abs().sum()), epochs


def model(seed: int) -> tuple[ImageClassifier, ImageData]:
    """A small network, trained briefly, and the test pictures."""
    data = load("fashion-mnist", split="test")
    classifier = small_network(
        image_shape=data.image_shape, class_names=data.class_names, seed=seed, width=16
    )
    lessons = subset(load("fashion-mnist", split="train"), np.arange(6000))
    plan = TrainingPlan(epochs=4, learning_rate=0.05)
    return train(classifier, lessons, plan, rng=np.random.default_rng(seed)), data


def main() -> None:
    """Print seconds of both, in turn, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--classes", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    classifier, data = model(0)
    assert classifier.preprocessing.mean == classifier.preprocessing.std == (0.5,)
    ours, others = [], []
    for target in range(options.classes):
        start = time.process_time()
        record = audit(classifier, trusted=data, seed=target)
        ours.append(time.process_time() - start)
        seconds, norm, epochs = theirs(options.folder, classifier, data, target)
        others.append(seconds)
        print(
            f"ours, all {classifier.n_classes} classes: {ours[-1]:.1f} s ({record.verdict}); "
            f"theirs, class {target}: {seconds:.1f} s, {epochs} epochs, mask {norm:.1f} pixels",
            flush=True,
        )
    all_classes = np.mean(others) * classifier.n_classes
    print(
        f"theirs, all classes (ten times the mean of {len(others)}): {all_classes:.0f} s; "
        f"ours {np.mean(ours):.1f} s; ratio {all_classes / np.mean(ours):.1f}"
    )


if __name__ == "__main__":
    main()
