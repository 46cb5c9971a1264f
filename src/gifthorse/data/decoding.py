"""Picture files to arrays, without trusting the files."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from gifthorse.core.errors import DataError
from gifthorse.data.images import PixelArray

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""Formats that are opened. Others that pillow knows start programs (EPS) or are rarely tested."""

MAX_PIXELS = 50_000_000
"""Pictures with more pixels than this are refused: they are bombs, or not training data."""


def open_picture(source: bytes | Path, where: str) -> Image.Image:
    """One picture, loaded and turned upright.

    Args:
        source: The content of a picture file, or where the file is.
        where: What to call the picture in an error.

    Raises:
        DataError: Missing, truncated, of another format, or too large.
    """
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with Image.open(file, formats=FORMATS) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise DataError(
                    f"{where}: {width} × {height} pixels are more than the {MAX_PIXELS:,} that "
                    "are decoded; if this is no decompression bomb, scale it down"
                )
            return _eight_bit(ImageOps.exif_transpose(picture), where)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{where}: refused as a decompression bomb: {error}") from error
    except FileNotFoundError as error:
        raise DataError(f"{where}: there is no such file") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{where}: not a picture in one of {', '.join(FORMATS)}") from error
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as error:
        # Pillow reports broken files by all of these.
        raise DataError(f"{where}: the picture file is broken: {error}") from error


def picture_levels(picture: Image.Image, channels: int, size: tuple[int, int]) -> PixelArray:
    """A picture as uint8 of shape (channels, height, width), resized bilinearly if need be.

    Args:
        picture: Any mode that ``open_picture`` returns.
        channels: 1 (luminance) or 3 (RGB).
        size: (height, width); the aspect ratio is not kept.
    """
    mode = "L" if channels == 1 else "RGB"
    if picture.mode != mode:
        picture = picture.convert(mode)
    height, width = size
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    levels = np.asarray(picture)
    return levels[None] if channels == 1 else levels.transpose(2, 0, 1)


def resized(pixels: PixelArray, size: tuple[int, int]) -> PixelArray:
    """Pictures (n, c, h, w) resized bilinearly to (height, width); unchanged ones as they are."""
    if pixels.shape[2:] == size:
        return pixels
    count, channels = pixels.shape[:2]
    result = np.empty((count, channels, *size), dtype=np.uint8)
    for row, levels in enumerate(pixels):
        picture = Image.fromarray(levels[0] if channels == 1 else levels.transpose(1, 2, 0))
        result[row] = picture_levels(picture, channels, size)
    return result


def _eight_bit(picture: Image.Image, where: str) -> Image.Image:
    """The picture in mode L or RGB, loaded."""
    if picture.mode.startswith("I;16"):
        # Pillow would clip at 255 instead of dividing.
        return Image.fromarray((np.asarray(picture).astype(np.uint16) >> 8).astype(np.uint8))
    if picture.mode in ("I", "F"):
        raise DataError(
            f"{where}: {picture.mode!r} pixels have no fixed range; expected 8 or 16 bits"
        )
    if picture.mode in ("1", "L", "LA"):
        return picture.convert("L")
    if "transparency" in picture.info:
        picture = picture.convert("RGBA")
    return picture.convert("RGB")
