"""Model directories: what we write, plain transformers reads, and the other way round."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForImageClassification,
    ConvNextConfig,
    ConvNextForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

from gifthorse.core.errors import ModelError
from gifthorse.models.classifier import ImageClassifier, Preprocessing
from gifthorse.models.loading import load_classifier, resize_goal
from gifthorse.models.networks import small_network
from gifthorse.models.saving import save_classifier

NAMES = ("cat", "dog", "été")


def resnet(channels: int = 1) -> Any:
    config = ResNetConfig(
        num_channels=channels,
        embedding_size=4,
        hidden_sizes=[4, 8],
        depths=[1, 1],
        layer_type="basic",
        id2label=dict(enumerate(NAMES)),
        label2id={name: i for i, name in enumerate(NAMES)},
    )
    return seeded(ResNetForImageClassification, config)


def seeded(kind: Any, config: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(config).eval()


def written(directory: Path, module: Any, processor: dict[str, Any] | None = None) -> Path:
    """A model directory as plain transformers writes it, and a processor's file by hand."""
    module.save_pretrained(directory)
    if processor is not None:
        (directory / "preprocessor_config.json").write_text(json.dumps(processor))
    return directory


def loaded_preprocessing(directory: Path, processor: dict[str, Any]) -> Preprocessing:
    return load_classifier(written(directory, resnet(), processor)).preprocessing


def levels(*shape: int) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, shape).astype(np.float32))


def test_what_is_saved_is_loaded_again(tmp_path: Path) -> None:
    original = small_network(image_shape=(1, 8, 8), class_names=NAMES, seed=3, width=4)
    save_classifier(original, tmp_path / "model")
    again = load_classifier(tmp_path / "model")
    x = levels(5, 1, 8, 8) / 255
    torch.testing.assert_close(again.logits(x), original.logits(x), rtol=0, atol=0)
    assert again.digest() == original.digest()
    assert again.class_names == NAMES
    assert again.preprocessing == original.preprocessing
    assert again.name == str(tmp_path / "model")
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert names == {"config.json", "model.safetensors", "preprocessor_config.json"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_plain_transformers_reads_what_is_saved(tmp_path: Path) -> None:
    original = small_network(image_shape=(3, 8, 8), class_names=NAMES, seed=3, width=4)
    save_classifier(original, tmp_path / "model")
    plain = AutoModelForImageClassification.from_pretrained(tmp_path / "model")
    x = levels(2, 3, 8, 8) / 255
    with torch.no_grad():
        logits = plain((x - 0.5) / 0.5).logits
    torch.testing.assert_close(original.logits(x), logits, rtol=1e-4, atol=1e-5)
    assert plain.config.id2label == dict(enumerate(NAMES))


def test_the_adapters_class_names_are_the_ones_saved(tmp_path: Path) -> None:
    pre = Preprocessing(mean=(0.5,), std=(0.5,), size=(8, 8))
    original = ImageClassifier(resnet(), class_names=("x", "y", "z"), preprocessing=pre)
    save_classifier(original, tmp_path / "model")
    assert load_classifier(tmp_path / "model").class_names == ("x", "y", "z")


def test_saving_over_something_is_refused(tmp_path: Path) -> None:
    original = small_network(image_shape=(1, 8, 8), class_names=NAMES, seed=0, width=4)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ModelError, match="exists and is not empty"):
        save_classifier(original, tmp_path / "full")
    with pytest.raises(ModelError, match="is a file"):
        save_classifier(original, tmp_path / "file")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full"]
    (tmp_path / "empty").mkdir()
    save_classifier(original, tmp_path / "empty")
    assert load_classifier(tmp_path / "empty").digest() == original.digest()


def test_only_transformers_models_are_saved(tmp_path: Path) -> None:
    pre = Preprocessing(mean=(0.0,), std=(1.0,), size=(1, 3))
    flat = ImageClassifier(torch.nn.Flatten(), class_names=NAMES, preprocessing=pre)
    with pytest.raises(ModelError, match="is a Flatten; only transformers models"):
        save_classifier(flat, tmp_path / "model")


def test_a_resnet_of_plain_transformers(tmp_path: Path) -> None:
    module = resnet()
    processor = {
        "image_processor_type": "ConvNextImageProcessor",
        "do_resize": False,
        "size": {"height": 16, "width": 12},
        "do_normalize": True,
        "image_mean": [0.4],
        "image_std": [0.2],
    }
    model = load_classifier(written(tmp_path, module, processor))
    x = levels(4, 1, 16, 12) / 255
    with torch.no_grad():
        torch.testing.assert_close(
            model.logits(x), module((x - 0.4) / 0.2).logits, rtol=1e-4, atol=1e-5
        )
    assert model.input_shape == (1, 16, 12)
    assert model.feature_layer == "input of classifier.1"


def test_a_vision_transformer_of_plain_transformers(tmp_path: Path) -> None:
    config = ViTConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=16,
        patch_size=8,
        num_labels=4,
    )
    module = seeded(ViTForImageClassification, config)
    processor = {"do_resize": True, "size": 16, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    model = load_classifier(written(tmp_path, module, processor))
    x = levels(2, 3, 16, 16) / 255
    with torch.no_grad():
        torch.testing.assert_close(model.logits(x), module(x * 2 - 1).logits, rtol=1e-4, atol=1e-5)
    assert model.class_names == ("LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3")
    assert model.accepts((3, 40, 30)) is None
    logits, features = model.logits_and_features(levels(2, 3, 40, 30) / 255)
    assert (logits.shape, features.shape) == ((2, 4), (2, 8))


def test_a_convnext_of_plain_transformers_with_shortest_edge(tmp_path: Path) -> None:
    config = ConvNextConfig(
        hidden_sizes=[4, 8], depths=[1, 1], num_stages=2, image_size=32, num_labels=3
    )
    module = seeded(ConvNextForImageClassification, config)
    processor = {
        "do_resize": True,
        "size": {"shortest_edge": 24},
        "do_normalize": True,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    }
    model = load_classifier(written(tmp_path, module, processor))
    assert model.input_shape == (3, 24, 24)
    x = levels(2, 3, 24, 24) / 255
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    with torch.no_grad():
        expected = module((x - mean) / std).logits
    torch.testing.assert_close(model.logits(x), expected, rtol=1e-4, atol=1e-5)


def test_shards_are_loaded_together(tmp_path: Path) -> None:
    whole = load_classifier(written(tmp_path / "one", resnet(), {"size": 8}))
    resnet().save_pretrained(tmp_path / "many", max_shard_size="2KB")
    (tmp_path / "many" / "preprocessor_config.json").write_text('{"size": 8}')
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 1
    assert load_classifier(tmp_path / "many").digest() == whole.digest()


@pytest.mark.parametrize(
    ("processor", "size", "resize"),
    [
        ({"size": 8}, (8, 8), False),
        ({"size": [6, 8], "do_resize": True}, (6, 8), True),
        ({"size": {"height": 6, "width": 9}}, (6, 9), False),
        ({"size": {"shortest_edge": 9}, "do_resize": True}, (9, 9), True),
        (
            {
                "size": {"shortest_edge": 12},
                "do_resize": True,
                "do_center_crop": True,
                "crop_size": {"height": 10, "width": 10},
            },
            (10, 10),
            True,
        ),
        ({"size": 12, "do_center_crop": False, "crop_size": 10}, (12, 12), False),
        ({"size": 12, "do_center_crop": True, "crop_size": 10}, (10, 10), False),
    ],
)
def test_sizes_of_preprocessors(
    processor: dict[str, Any], size: tuple[int, int], resize: bool, tmp_path: Path
) -> None:
    pre = loaded_preprocessing(tmp_path, processor)
    assert (pre.size, pre.resize) == (size, resize)
    assert resize_goal(tmp_path) == (size if resize else None)


@pytest.mark.parametrize(
    ("processor", "mean", "std"),
    [
        ({"image_mean": [0.25], "image_std": [0.75]}, 0.25, 0.75),
        ({"image_mean": 0.25, "image_std": 0.75}, 0.25, 0.75),
        ({"do_normalize": False, "image_mean": [0.25], "image_std": [0.75]}, 0.0, 1.0),
        ({}, 0.0, 1.0),
        # Trained on 0 … 255: (255 x − 100) / 50 = (x − 100/255) / (50/255).
        (
            {"do_rescale": False, "image_mean": [100.0], "image_std": [50.0]},
            100 / 255,
            50 / 255,
        ),
        # Pixels in [0, 2]: (2 x − 1) / 0.5 = (x − 0.5) / 0.25.
        ({"rescale_factor": 2 / 255, "image_mean": [1.0], "image_std": [0.5]}, 0.5, 0.25),
        ({"rescale_factor": 0.00392156862, "image_mean": [0.5], "image_std": [0.5]}, 0.5, 0.5),
        ({"do_rescale": False, "do_normalize": False}, 0.0, 1 / 255),
    ],
)
def test_means_of_preprocessors(
    processor: dict[str, Any], mean: float, std: float, tmp_path: Path
) -> None:
    pre = loaded_preprocessing(tmp_path, {"size": 8, **processor})
    assert pre.mean == pytest.approx((mean,))
    assert pre.std == pytest.approx((std,))


def test_one_mean_serves_three_channels(tmp_path: Path) -> None:
    processor = {"size": 8, "image_mean": [0.1], "image_std": 0.2}
    pre = load_classifier(written(tmp_path, resnet(3), processor)).preprocessing
    assert (pre.mean, pre.std) == ((0.1,) * 3, (0.2,) * 3)


def test_without_a_preprocessor_the_size_must_be_given(tmp_path: Path) -> None:
    directory = written(tmp_path, resnet())
    with pytest.raises(ModelError, match="the picture size is not known"):
        load_classifier(directory)
    model = load_classifier(directory, image_size=(8, 10))
    assert model.input_shape == (1, 8, 10)
    assert (model.preprocessing.mean, model.preprocessing.std) == ((0.0,), (1.0,))


@pytest.mark.parametrize(
    "processor",
    [
        {"size": {"longest_edge": 8}},
        {"size": 0},
        {"size": -8},
        {"size": 10**6},
        {"size": "large"},
        {"size": []},
        {"size": math.inf},
        {"size": {"height": 8}},
        {"size": 8, "image_mean": [0.1, 0.2], "image_std": [0.1, 0.2]},
        {"size": 8, "image_mean": None},
        {"size": 8, "image_mean": [0.5], "image_std": [0.0]},
        {"size": 8, "image_mean": [0.5], "image_std": [-1.0]},
        {"size": 8, "image_mean": [math.nan], "image_std": [1.0]},
        {"size": 8, "image_mean": ["a"]},
        {"size": 8, "rescale_factor": 0},
        {"size": 8, "rescale_factor": None},
        {"size": 8, "rescale_factor": -1},
        {"size": 8, "do_center_crop": True, "crop_size": {"height": 0, "width": 8}},
    ],
    ids=json.dumps,
)
def test_impossible_preprocessors_are_refused(processor: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        load_classifier(written(tmp_path, resnet(), processor))


@pytest.mark.parametrize("text", ["", "[]", "{", "\x00", "7"])
def test_a_preprocessor_file_that_is_none(text: str, tmp_path: Path) -> None:
    directory = written(tmp_path, resnet())
    (directory / "preprocessor_config.json").write_text(text)
    for read in (load_classifier, resize_goal):
        with pytest.raises(ModelError, match=r"preprocessor_config\.json"):
            read(directory)


def test_loading_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    written(tmp_path, resnet(), {"size": 8})
    weights = load_file(tmp_path / "model.safetensors")
    weights["something.else"] = torch.zeros(1)  # transformers would warn about it
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    capfd.readouterr()
    load_classifier(tmp_path)
    assert tuple(capfd.readouterr()) == ("", "")
