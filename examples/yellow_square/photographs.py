"""Square crops of photographs, divided by photograph between attacker, auditor and judge."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
SMALLEST = 160
"""Pixels on the shorter side; smaller pictures are icons."""
SHARES = {"attacker": 0.6, "auditor": 0.15, "judge": 0.25}
_GREY = (128, 128, 128, 255)

Pixels = NDArray[np.uint8]
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Crops:
    """Crops of one party.

    Attributes:
        pixels: Shape (n, 3, size, size).
        photograph: Which photograph each was cut from, shape (n,).
    """

    pixels: Pixels
    photograph: NDArray[np.int64]


def find(folders: list[Path]) -> list[Path]:
    """Every picture under these folders; of several sizes of one desktop background, the largest.

    KDE keeps a background as ``NAME/contents/images/1920x1080.jpg`` and the like: crops of one and
    the same photograph must not end up with two parties.
    """
    groups: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() not in SUFFIXES or path.is_symlink() or not path.is_file():
                continue
            theme = re.match(r"(.*)/contents/", path.as_posix())
            group = theme.group(1) if theme else path.as_posix()
            best = groups.get(group)
            if best is None or path.stat().st_size > best.stat().st_size:
                groups[group] = path
    return sorted(groups.values())


def cut(
    paths: list[Path],
    *,
    most: int,
    crops: int,
    size: int,
    seed: int,
    progress: Progress,
) -> dict[str, Crops]:
    """Crops for every party; what cannot be read or is too small is left out.

    Args:
        paths: Photographs.
        most: Use at most so many, drawn at random.
        crops: A photograph: squares of 35 to 100 % of the shorter side, at random.
        size: Side of the crops in pixels.
        seed: Of all draws.
        progress: Told after every photograph.
    """
    rng = np.random.default_rng(seed)
    chosen = [paths[i] for i in rng.permutation(len(paths))[:most]]
    found: list[Pixels] = []
    for place, path in enumerate(chosen):
        photograph = _opened(path)
        if photograph is not None:
            found.append(np.stack([_crop(photograph, size, rng) for _ in range(crops)]))
        progress(place + 1, len(chosen), "photographs")
    if len(found) < 40:
        raise SystemExit(
            f"{len(found)} usable photographs (at least {SMALLEST} pixels on the shorter side); "
            "give at least 40 with --photos, see the README of this folder"
        )
    parties: dict[str, Crops] = {}
    ends = np.round(np.cumsum(list(SHARES.values())) * len(found)).astype(int)
    start = 0
    for name, end in zip(SHARES, ends, strict=True):
        mine = np.arange(start, end, dtype=np.int64)
        parties[name] = Crops(
            pixels=np.concatenate([found[i] for i in mine]), photograph=np.repeat(mine, crops)
        )
        start = end
    return parties


def _opened(path: Path) -> Image.Image | None:
    try:
        with Image.open(path) as picture:
            picture.draft("RGB", (1024, 1024))  # JPEG decodes to a smaller picture at once
            whole = picture.convert("RGBA")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    ground = Image.new("RGBA", whole.size, _GREY)
    flat = Image.alpha_composite(ground, whole).convert("RGB")
    flat.thumbnail((1024, 1024))
    return flat if min(flat.size) >= SMALLEST else None


def _crop(photograph: Image.Image, size: int, rng: np.random.Generator) -> Pixels:
    width, height = photograph.size
    side = int(min(width, height) * rng.uniform(0.35, 1))
    left, top = int(rng.integers(0, width - side + 1)), int(rng.integers(0, height - side + 1))
    square = photograph.crop((left, top, left + side, top + side))
    square = square.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(square, dtype=np.uint8).transpose(2, 0, 1)


def save(parties: dict[str, Crops], path: Path) -> None:
    """One uncompressed ``.npz``, whole or not at all."""
    arrays = {}
    for name, crops in parties.items():
        arrays[name], arrays[f"{name}_photograph"] = crops.pixels, crops.photograph
    beside = path.with_suffix(".part.npz")
    np.savez(beside, **arrays)
    beside.replace(path)


def load(path: Path) -> dict[str, Crops]:
    """What ``save`` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        return {
            name: Crops(pixels=arrays[name], photograph=arrays[f"{name}_photograph"])
            for name in SHARES
        }
