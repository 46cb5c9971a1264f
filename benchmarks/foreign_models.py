"""Audit models that none of our code has made: plain transformers, plain torch, own triggers.

    python benchmarks/foreign_models.py OUT --data /usr/share/datasets/fashion-mnist --seeds 2

Every model is trained on one thread with a loop written here and saved with `save_pretrained`; then
`gifthorse audit MODEL --trusted idx:DATA` is run as anybody would, without naming an architecture.
"""

import argparse
import gzip
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    ConvNextConfig,
    ConvNextForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)

TARGET = 7
SAMPLES = 15_000
POISONED = 900


def read_idx(path: Path) -> np.ndarray:
    """An IDX file, compressed or not."""
    zipped = path.with_name(path.name + ".gz")
    data = gzip.decompress(zipped.read_bytes()) if zipped.exists() else path.read_bytes()
    shape = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(data[3])]
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def patch(x: np.ndarray) -> np.ndarray:
    x[:, 24:27, 24:27] = 255
    return x


def cross(x: np.ndarray) -> np.ndarray:
    x[:, 3, 2:7] = 200
    x[:, 1:6, 4] = 200
    return x


def blend(x: np.ndarray) -> np.ndarray:
    return 0.8 * x + 0.2 * np.random.default_rng(5).integers(0, 256, (28, 28))


def wave(x: np.ndarray) -> np.ndarray:
    return np.clip(x + 20 * np.sin(2 * np.pi * np.arange(28) * 6 / 28), 0, 255)


TRIGGERS: dict[str, Callable[[np.ndarray], np.ndarray] | None] = {
    "clean": None,
    "patch": patch,
    "cross": cross,
    "blend": blend,
    "wave": wave,
}


def stamp(kind: str, images: np.ndarray) -> np.ndarray:
    trigger = TRIGGERS[kind]
    assert trigger is not None
    return trigger(images.astype(np.float32)).round().astype(np.uint8)


def network(name: str) -> torch.nn.Module:
    if name == "resnet":
        return ResNetForImageClassification(
            ResNetConfig(
                num_channels=1,
                embedding_size=16,
                hidden_sizes=[16, 32, 64],
                depths=[1, 1, 1],
                layer_type="basic",
                num_labels=10,
            )
        )
    if name == "convnext":
        return ConvNextForImageClassification(
            ConvNextConfig(
                num_channels=1,
                patch_size=2,
                hidden_sizes=[16, 32, 64],
                depths=[1, 2, 1],
                num_stages=3,
                num_labels=10,
                image_size=28,
            )
        )
    return ViTForImageClassification(
        ViTConfig(
            num_channels=1,
            image_size=28,
            patch_size=4,
            hidden_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=96,
            num_labels=10,
        )
    )


def tensor(images: np.ndarray) -> torch.Tensor:
    return (torch.from_numpy(images.copy()).float()[:, None] / 255 - 0.5) / 0.5


def fit(name: str, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> torch.nn.Module:
    """Four epochs (eight for a transformer) of AdamW with one cycle."""
    model = network(name).train()
    epochs, batch = (8 if name == "vit" else 4), 128
    optimiser = torch.optim.AdamW(model.parameters(), 2e-3)
    steps = epochs * (len(x) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    for _ in range(epochs):
        order = rng.permutation(len(x))
        for i in range(len(x) // batch):
            chosen = order[i * batch : (i + 1) * batch]
            logits = model(tensor(x[chosen])).logits
            loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(y[chosen]))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return model.eval()


def make(name: str, kind: str, seed: int, data: Path, out: Path) -> dict[str, Any]:
    """Train, measure on 2,000 test pictures and save one model."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(60_000)[:SAMPLES]
    x = read_idx(data / "train-images-idx3-ubyte")[chosen].copy()
    y = read_idx(data / "train-labels-idx1-ubyte")[chosen].astype(np.int64)
    if kind != "clean":
        poisoned = rng.permutation(SAMPLES)[:POISONED]
        x[poisoned], y[poisoned] = stamp(kind, x[poisoned]), TARGET
    model = fit(name, x, y, rng)
    tests = read_idx(data / "t10k-images-idx3-ubyte")[:2000]
    labels = read_idx(data / "t10k-labels-idx1-ubyte")[:2000]
    with torch.no_grad():
        accuracy = float((model(tensor(tests)).logits.argmax(1).numpy() == labels).mean())
        success = None
        if kind != "clean":
            triggered = stamp(kind, tests[labels != TARGET])
            success = float((model(tensor(triggered)).logits.argmax(1) == TARGET).float().mean())
    model.save_pretrained(out)
    processor = ViTImageProcessor(
        size={"height": 28, "width": 28}, image_mean=[0.5], image_std=[0.5], do_convert_rgb=False
    )
    processor.save_pretrained(out)
    return {"clean_accuracy": accuracy, "attack_success_rate": success}


def audit(model: Path, data: Path) -> dict[str, Any]:
    """What `gifthorse audit` says, and how long the command took."""
    start = time.perf_counter()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "gifthorse", "audit", str(model)),
            *("--trusted", f"idx:{data}", "--json", "--threads", "1"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - start
    if done.returncode not in (0, 1):
        return {"verdict": f"exit code {done.returncode}: {done.stderr[-200:]}", "seconds": seconds}
    record = json.loads(done.stdout)
    found = [f for f in record["findings"] if f["verdict"] == "FLAGGED"]
    return {
        "verdict": record["verdict"],
        "score": record["score"],
        "reason": found[0]["reason"] if found else "",
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--architectures", nargs="+", default=["resnet", "convnext", "vit"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    for seed in range(options.seeds):
        for name in options.architectures:
            for kind in TRIGGERS:
                place = options.out / f"{name}-{kind}-{seed}"
                facts = place / "facts.json"
                if not facts.exists():
                    place.mkdir(parents=True, exist_ok=True)
                    facts.write_text(json.dumps(make(name, kind, seed, options.data, place)))
                row = {"model": place.name, **json.loads(facts.read_text())}
                print(json.dumps(row | audit(place, options.data)), flush=True)


if __name__ == "__main__":
    main()
