"""What a data scan costs beside one bare forward pass over the same data.

    python benchmarks/data_scan.py [--rounds 5]

Fashion-MNIST, 60,000 training pictures, an untrained small network (speed does not depend on its
weights); scan and bare pass take turns, and the ratio is taken round by round.
"""

import argparse
import time

import numpy as np
import torch

from gifthorse.auditing.examine import Plan, plugins
from gifthorse.auditing.scan import DEFAULT_DETECTORS, scan_with
from gifthorse.data.sources import load
from gifthorse.models.networks import small_network


def bare_pass(classifier, data, batch_size=256):  # type: ignore[no-untyped-def]
    """The least that any scan must do: batches in, logits out."""
    with torch.inference_mode():
        for start in range(0, len(data), batch_size):
            rows = np.arange(start, min(start + batch_size, len(data)))
            classifier.module(classifier.normalise(torch.from_numpy(data.batch(rows))))


def main() -> None:
    """Take turns and print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--width", type=int, default=16)
    options = parser.parse_args()
    data = load("fashion-mnist", split="train")
    classifier = small_network(
        image_shape=data.image_shape, class_names=data.class_names, seed=0, width=options.width
    )
    plan = Plan(detectors=plugins("detectors", DEFAULT_DETECTORS), false_alarm_rate=0.05)
    bare_pass(classifier, data)  # warm up
    passes, scans = [], []
    for _ in range(options.rounds):
        start = time.perf_counter()
        bare_pass(classifier, data)
        passes.append(time.perf_counter() - start)
        start = time.perf_counter()
        record = scan_with(classifier, data, plan)
        scans.append(time.perf_counter() - start)
        parts = ", ".join(f"{f.detector.name} {f.cost.seconds:.2f} s" for f in record.findings)
        print(f"bare pass {passes[-1]:.2f} s, scan {scans[-1]:.2f} s ({parts})", flush=True)
    ratios = np.array(scans) / np.array(passes)
    print(
        f"scan / bare forward pass: median {np.median(ratios):.2f}, "
        f"min {ratios.min():.2f}, max {ratios.max():.2f}"
    )


if __name__ == "__main__":
    main()
