"""100 MB on a single line of JSON: one clear sentence, and never all of it in memory."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from gifthorse.auditing.language import audit_language
from gifthorse.core.errors import DataError, GifthorseError, ModelError
from gifthorse.data.contexts import read_prompts
from gifthorse.data.instructions import load_instructions

SIZE = 100_000_000
ALLOWED = 40 << 20


def huge(path: Path) -> Path:
    """One line of JSON; the blanks in it take no room on the disk."""
    with path.open("wb") as file:
        file.write(b'{"prompt": "')
        file.seek(SIZE)
        file.write(b'"}')
    return path


def _adapter(path: Path) -> object:
    return audit_language(path.parent)


@pytest.mark.parametrize(
    ("name", "read", "kind"),
    [
        ("prompts.jsonl", read_prompts, DataError),
        ("data.jsonl", lambda path: load_instructions(str(path)), DataError),
        ("adapter_config.json", _adapter, ModelError),
        ("config.json", _adapter, ModelError),
    ],
)
def test_a_hundred_megabytes_on_one_line(
    tmp_path: Path, name: str, read: Callable[[Path], object], kind: type[GifthorseError]
) -> None:
    path = huge(tmp_path / name)
    tracemalloc.start()
    try:
        with pytest.raises(kind, match="bytes"):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < ALLOWED
    finally:
        tracemalloc.stop()
