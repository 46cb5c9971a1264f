"""What people download: architectures, preprocessors, label lists, names of the hub."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
import transformers
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError
from torch import nn
from transformers import AutoImageProcessor

from gifthorse.auditing.audit import audit
from gifthorse.core.errors import ModelError
from gifthorse.core.types import Verdict
from gifthorse.data.images import ArrayImages
from gifthorse.models.loading import load_classifier
from gifthorse.models.saving import save_classifier

CLASSES = 5
NAMES = {i: f"kind {i}" for i in range(CLASSES)}
_VIT = {
    "patch_size": 8,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
_STAGES = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
ARCHITECTURES: dict[str, tuple[int, dict[str, Any]]] = {
    "ViT": (24, _VIT),
    "DeiT": (24, _VIT),
    "Beit": (32, _VIT),
    "ConvNext": (32, _STAGES),
    "ResNet": (40, {**_STAGES, "embedding_size": 8, "layer_type": "basic"}),
    "RegNet": (32, {**_STAGES, "embedding_size": 8, "groups_width": 4}),
    "Swin": (
        32,
        {"patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4},
    ),
    "MobileNetV2": (48, {"depth_multiplier": 0.25}),
    "EfficientNet": (
        33,
        {
            "width_coefficient": 0.1,
            "depth_coefficient": 0.2,
            "hidden_dim": 128,
            "initializer_range": 0.3,
        },
    ),
}


def module_of(kind: str, **options: Any) -> Any:
    """A tiny random classifier whose answers differ from picture to picture."""
    size, more = ARCHITECTURES[kind]
    config = getattr(transformers, f"{kind}Config")(
        image_size=size,
        id2label=NAMES,
        label2id={name: i for i, name in NAMES.items()},
        **{**more, **options},
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = getattr(transformers, f"{kind}ForImageClassification")(config).eval()
    head = [m for m in module.modules() if isinstance(m, nn.Linear) and m.out_features == CLASSES]
    rows = torch.linspace(0, 1, 8).view(-1, 1, 1, 1)
    pictures = torch.rand(8, 3, size, size, generator=torch.Generator().manual_seed(1)) * rows
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(2)
        module.train()
        for _ in range(30):  # statistics of batch normalisation
            module(pictures * 2 - 1)
        module.eval()
        logits = module(pictures * 2 - 1).logits
        scale = 3 / logits.std(0).mean()
        head[-1].weight *= scale
        if head[-1].bias is not None:
            head[-1].bias.copy_(scale * (head[-1].bias - logits.mean(0)))
    return module


def written(directory: Path, module: Any, processor: dict[str, Any] | None) -> Path:
    module.save_pretrained(directory)
    if processor is not None:
        (directory / "preprocessor_config.json").write_text(json.dumps(processor))
    return directory


@pytest.mark.parametrize("kind", list(ARCHITECTURES))
def test_architectures_load_give_gradients_and_features_and_are_audited(
    tmp_path: Path, kind: str
) -> None:
    size, _ = ARCHITECTURES[kind]
    module = module_of(kind)
    directory = written(
        tmp_path,
        module,
        {
            "do_resize": True,
            "size": {"height": size, "width": size},
            "do_normalize": True,
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
        },
    )
    model = load_classifier(directory)
    assert model.input_shape == (3, size, size)
    assert model.class_names == tuple(NAMES.values())
    rng = np.random.default_rng(0)
    pixels = rng.random((24, 3, size, size), dtype=np.float32)
    pixels *= np.linspace(0.1, 1, 24, dtype=np.float32)[:, None, None, None]
    x = torch.from_numpy(pixels).requires_grad_(True)
    logits, features = model.logits_and_features(x)
    with torch.no_grad():
        torch.testing.assert_close(logits, module(x * 2 - 1).logits, rtol=1e-3, atol=1e-3)
    logits[:, 0].sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert bool((x.grad.flatten(1).abs().sum(1) > 0).all())
    assert "input of" in model.feature_layer
    assert features.shape[0] == 24
    assert model.head is not None
    torch.testing.assert_close(model.head(features), logits, rtol=1e-3, atol=1e-3)

    labels = logits.argmax(1).numpy()
    assert len(np.unique(labels)) > 1
    trusted = ArrayImages.from_floats(pixels, labels, name="noise", class_names=model.class_names)
    detectors = ("universality:steps=6,samples=12,batch_size=6", "mm_bd:steps=4,samples=2")
    record = audit(directory, trusted=trusted, detectors=detectors)
    assert {f.verdict for f in record.findings} <= {
        Verdict.CLEAR,
        Verdict.FLAGGED,
        Verdict.NOT_APPLICABLE,
    }
    assert all(f.cost.backward_passes > 0 for f in record.findings)


PROCESSORS: dict[str, dict[str, Any]] = {
    "vit": {"image_processor_type": "ViTImageProcessor", "size": {"height": 24, "width": 24}},
    "vit, a size as one number": {"image_processor_type": "ViTImageProcessor", "size": 24},
    "an older name": {"feature_extractor_type": "ViTFeatureExtractor", "size": 24},
    "no normalisation": {
        "image_processor_type": "ViTImageProcessor",
        "do_normalize": False,
        "size": {"height": 24, "width": 24},
    },
    "levels instead of shares": {
        "image_processor_type": "ViTImageProcessor",
        "do_rescale": False,
        "image_mean": [120.0, 110.0, 100.0],
        "image_std": [60.0, 61.0, 62.0],
        "size": {"height": 24, "width": 24},
    },
    "twice the scale": {
        "image_processor_type": "ViTImageProcessor",
        "rescale_factor": 2 / 255,
        "size": {"height": 24, "width": 24},
    },
    "convnext": {
        "image_processor_type": "ConvNextImageProcessor",
        "size": {"shortest_edge": 24},
        "crop_pct": 1.0,
    },
    "deit": {
        "image_processor_type": "DeiTImageProcessor",
        "size": {"height": 24, "width": 24},
        "crop_size": {"height": 24, "width": 24},
    },
    "beit, no resizing": {
        "image_processor_type": "BeitImageProcessor",
        "do_resize": False,
        "do_center_crop": True,
        "crop_size": {"height": 24, "width": 24},
        "size": {"height": 30, "width": 30},
    },
    "mobilenet_v2": {
        "image_processor_type": "MobileNetV2ImageProcessor",
        "size": {"shortest_edge": 24},
        "crop_size": {"height": 24, "width": 24},
    },
    "efficientnet": {
        "image_processor_type": "EfficientNetImageProcessor",
        "size": {"height": 24, "width": 24},
    },
    "efficientnet, once, to ±1": {
        "image_processor_type": "EfficientNetImageProcessor",
        "size": {"height": 24, "width": 24},
        "include_top": False,
        "rescale_offset": True,
        "rescale_factor": 1 / 127.5,
    },
    "mobilevit, blue first": {
        "image_processor_type": "MobileViTImageProcessor",
        "size": {"shortest_edge": 24},
        "crop_size": {"height": 24, "width": 24},
    },
}
_DEFAULT = {
    "do_resize": True,
    "do_rescale": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}
_NO_NORMALISATION = {"MobileViTImageProcessor"}


@pytest.mark.parametrize("name", list(PROCESSORS))
def test_the_network_gets_what_transformers_would_give_it(tmp_path: Path, name: str) -> None:
    """Pictures that have the right size already, so that only the numbers are compared."""
    processor = {**_DEFAULT, **PROCESSORS[name]}
    if processor.get("image_processor_type") in _NO_NORMALISATION:
        del processor["image_mean"], processor["image_std"]
    else:
        processor.setdefault("do_normalize", True)
    directory = written(tmp_path, module_of("ViT"), processor)
    levels = np.random.default_rng(0).integers(0, 256, (2, 3, 24, 24), dtype=np.uint8)
    wanted = AutoImageProcessor.from_pretrained(directory)(
        list(levels), return_tensors="pt", input_data_format="channels_first"
    )["pixel_values"]
    model = load_classifier(directory)
    given = model.normalise(torch.from_numpy(levels.astype(np.float32) / 255))
    torch.testing.assert_close(given, wanted.float(), rtol=1e-3, atol=1e-3)


def test_one_channel_and_a_list_of_one(tmp_path: Path) -> None:
    processor = {"do_normalize": True, "image_mean": [0.3], "image_std": [0.2], "size": 24}
    module = transformers.ViTForImageClassification(
        transformers.ViTConfig(image_size=24, num_channels=1, num_labels=4, **_VIT)
    )
    model = load_classifier(written(tmp_path, module, processor))
    assert model.input_shape == (1, 24, 24)
    assert (model.preprocessing.mean, model.preprocessing.std) == ((0.3,), (0.2,))
    assert "1 channel(s) and the model takes" not in str(model.accepts((1, 24, 24)))
    assert "3 channel(s)" in str(model.accepts((3, 24, 24)))


def test_what_takes_blue_first_is_not_saved_as_something_else(tmp_path: Path) -> None:
    processor = {"image_processor_type": "MobileViTImageProcessor", "size": 24}
    model = load_classifier(written(tmp_path / "a", module_of("ViT"), processor))
    assert model.preprocessing.blue_first
    with pytest.raises(ModelError, match="takes blue first"):
        save_classifier(model, tmp_path / "b")
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        ({"longest_edge": 24}, r"longest_edge.*expected height and width"),
        ({"height": 0, "width": 24}, "0×24"),
        ("large", "preprocessor_config.json is not understood"),
        ([24], "preprocessor_config.json is not understood"),
    ],
)
def test_sizes_that_mean_nothing(tmp_path: Path, size: Any, reason: str) -> None:
    directory = written(tmp_path, module_of("ViT"), {"do_resize": True, "size": size})
    with pytest.raises(ModelError, match=reason):
        load_classifier(directory)


def with_labels(directory: Path, labels: Any) -> Path:
    written(directory, module_of("ViT"), None)
    path = directory / "config.json"
    config = json.loads(path.read_text())
    config["id2label"] = labels
    path.write_text(json.dumps(config))
    return directory


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ({"000": "a", "001": "b", "002": "c", "003": "d", "004": "e"}, tuple("abcde")),
        ({str(i): i * 10 for i in range(5)}, ("0", "10", "20", "30", "40")),
        ({str(i): None for i in range(5)}, tuple(f"class {i}" for i in range(5))),
        ({str(i): ["n01", "tench"] for i in range(5)}, ("n01, tench",) * 5),
        ({str(4 - i): "abcde"[i] for i in range(5)}, tuple("edcba")),
    ],
)
def test_odd_label_lists_that_can_be_read(
    tmp_path: Path, labels: Any, names: tuple[str, ...]
) -> None:
    assert load_classifier(with_labels(tmp_path, labels)).class_names == names


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (["a", "b", "c", "d", "e"], "id2label in config.json is a list; expected an object"),
        ({name: name for name in "abcde"}, "has the key 'a'; expected the number of a class"),
        ({"0": "a", "1": "b"}, "of another shape than config.json says"),
        ({str(i + 1): "x" for i in range(5)}, "id2label does not name the classes 0 … 4"),
    ],
)
def test_label_lists_that_cannot_be_meant(tmp_path: Path, labels: Any, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        load_classifier(with_labels(tmp_path, labels))


@pytest.mark.parametrize("text", ["google/vit-base", "https://huggingface.co/google/vit-base"])
def test_a_name_of_the_hub_without_its_mark(text: str) -> None:
    with pytest.raises(ModelError, match=r"no such model: .*or hub:google/vit-base to download"):
        load_classifier(text)


def test_hub_names_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(error: Exception) -> None:
        def fetch(*_: object, **__: object) -> str:
            raise error

        monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)

    fail(LocalEntryNotFoundError("no network"))
    with pytest.raises(ModelError, match="hub cannot be reached and the model is not in the cache"):
        load_classifier("hub:acme/model")
    fail(RepositoryNotFoundError("404", response=MagicMock()))
    with pytest.raises(ModelError, match="there is no such model, or it is private"):
        load_classifier("hub:acme/model")


@pytest.mark.parametrize("name", ["hub:", "hub:../../etc", "hub:a b/c"])
def test_names_that_the_hub_does_not_have(name: str) -> None:
    with pytest.raises(ModelError, match="that is no name on the hub; expected OWNER/NAME"):
        load_classifier(name)
