"""The same pictures under other labels."""

from dataclasses import dataclass

from gifthorse.core.types import FloatArray, ImageData, IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Relabelled:
    """A view of ``data`` with other labels (n,) and class names; no pixel is copied."""

    data: ImageData
    labels: IntArray
    class_names: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of the underlying data."""
        return self.data.name

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return self.data.image_shape

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: IntArray) -> FloatArray:
        """The pictures at ``indices``, shape (len(indices), c, h, w), in [0, 1]."""
        return self.data.batch(indices)
