"""Both scans on a trained model: a planted patch in Fashion-MNIST, and the clean twin."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from gifthorse.core.types import BoolArray, Subject, silent
from gifthorse.data.images import ArrayImages
from gifthorse.detectors.data.activation_clustering import ActivationClustering
from gifthorse.detectors.data.spectral_signatures import SpectralSignatures
from gifthorse.models.networks import small_network
from gifthorse.models.passes import extract_features
from gifthorse.models.training import TrainingPlan, train

FOLDER = Path("/usr/share/datasets/fashion-mnist")
SIZE, TARGET, POISONED = 20_000, 3, 200
NAMES = (
    "shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "blouse",
    "sneaker",
    "bag",
    "boot",
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FOLDER.is_dir(), reason="Fashion-MNIST is not installed"),
]


def fashion() -> ArrayImages:
    with gzip.open(FOLDER / "train-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)[:SIZE]
    with gzip.open(FOLDER / "train-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)[:SIZE].astype(np.int64)
    return ArrayImages(name="fashion", pixels=pixels.copy(), labels=labels, class_names=NAMES)


def with_patch(clean: ArrayImages) -> tuple[ArrayImages, BoolArray]:
    """A white 3×3 patch in the corner of 1 % of the pictures, relabelled."""
    rng = np.random.default_rng(5)
    chosen = rng.choice(np.flatnonzero(clean.labels != TARGET), POISONED, replace=False)
    pixels, labels = clean.pixels.copy(), clean.labels.copy()
    pixels[chosen, :, -3:, -3:] = 255
    labels[chosen] = TARGET
    poisoned = np.zeros(SIZE, dtype=np.bool_)
    poisoned[chosen] = True
    data = ArrayImages(name="poisoned", pixels=pixels, labels=labels, class_names=NAMES)
    return data, poisoned


def scanned(data: ArrayImages) -> Subject:
    network = small_network(image_shape=(1, 28, 28), class_names=NAMES, seed=1, width=16)
    model = train(network, data, TrainingPlan(epochs=6), rng=np.random.default_rng(1))
    return Subject(model=model, suspect=data, features=extract_features(model, data))


def test_patch_in_one_per_cent_is_found_and_the_clean_twin_is_left_alone() -> None:
    clean = fashion()
    data, poisoned = with_patch(clean)
    planted, twin = scanned(data), scanned(clean)
    best = 0.0
    for scan in (ActivationClustering(), SpectralSignatures()):
        rng = np.random.default_rng(0)
        evidence = scan.inspect(planted, rng=rng, progress=silent)
        found = np.zeros(SIZE, dtype=np.bool_)
        found[evidence.suspects] = True
        flagged = evidence.statistic > scan.null(evidence).threshold(0.025).value
        if flagged and (found & ~poisoned).sum() <= 0.05 * (~poisoned).sum():
            best = max(best, (found & poisoned).sum() / poisoned.sum())
        quiet = scan.inspect(twin, rng=rng, progress=silent)
        assert quiet.statistic < scan.null(quiet).threshold(0.025).value
    assert best >= 0.95
