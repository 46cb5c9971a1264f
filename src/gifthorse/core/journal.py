"""What long work has finished, so that it can go on after an interruption."""

import json
from pathlib import Path
from typing import Any

from gifthorse.core.errors import RecordError


class Journal:
    """Results of pieces of work by name, one JSON line each; a torn last line is dropped.

    Args:
        path: The file; None keeps everything in memory.
        key: What the work is about (digests and options). A file about other work is an error.

    Raises:
        RecordError: The file cannot be read or written, or is about other work.
    """

    def __init__(self, path: Path | None = None, *, key: str = "") -> None:
        self._path = path
        self._held: dict[str, Any] = {}
        if path is None:
            return
        try:
            if path.exists():
                self._read(path, key)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps({"key": key}) + "\n", encoding="utf-8")
        except OSError as error:
            raise RecordError(f"cannot keep a journal in {path}: {error.strerror}") from error

    def get(self, name: str) -> Any | None:
        """The result of a piece of work, or None if it is not finished."""
        return self._held.get(name)

    def put(self, name: str, result: Any) -> None:
        """Keep a result; it is on disk when this returns."""
        self._held[name] = result
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps([name, result]) + "\n")

    def _read(self, path: Path, key: str) -> None:
        lines = path.read_text(encoding="utf-8").split("\n")
        whole, torn = lines[:-1], lines[-1]
        try:
            if not whole or json.loads(whole[0]) != {"key": key}:
                raise RecordError(
                    f"{path} belongs to another audit (other model, prompts or options); "
                    "choose another place or delete it"
                )
            for line in whole[1:]:
                name, result = json.loads(line)
                self._held[str(name)] = result
        except (ValueError, TypeError) as error:
            raise RecordError(f"{path} is not a journal: {error}") from error
        if torn:
            path.write_text("\n".join(whole) + "\n", encoding="utf-8")
