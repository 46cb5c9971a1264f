"""What a language model is asked during an audit: packs that ship with the tool, or a user's own.

A pack is a TOML file in ``context_packs``: a system prompt, a date, a language, and harmless
prompts. A user's own prompts are JSON Lines: a string a line, or an object with ``prompt``,
``instruction`` (and ``input``), ``text`` or ``messages``; at most 10,000 lines of 64 KiB.
"""

import json
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

from gifthorse.core.errors import DataError
from gifthorse.core.language import Context

_MOST_LINES = 10_000
_LONGEST_LINE = 1 << 16


def shipped_contexts() -> tuple[Context, ...]:
    """The packs that ship with gifthorse, by file name."""
    folder = files("gifthorse.data").joinpath("context_packs")
    found = []
    for item in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if item.name.endswith(".toml"):
            told = tomllib.loads(item.read_text(encoding="utf-8"))
            found.append(
                Context(
                    name=str(told["name"]),
                    system=str(told.get("system", "")),
                    date=str(told.get("date", "")),
                    prompts=tuple(str(prompt) for prompt in told["prompts"]),
                )
            )
    return tuple(found)


def read_prompts(path: Path) -> Context:
    """A context of a user's own prompts.

    Raises:
        DataError: Missing, too large, not JSON Lines, or without prompts.
    """
    prompts: list[str] = []
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(_LONGEST_LINE + 1):
                number += 1
                if len(line) > _LONGEST_LINE:
                    raise DataError(f"{path}: line {number} is longer than {_LONGEST_LINE:,} bytes")
                if number > _MOST_LINES:
                    raise DataError(f"{path} has more than {_MOST_LINES:,} lines")
                if line.strip():
                    prompts.append(_prompt(path, number, line))
    except OSError as error:
        raise DataError(f"cannot read the prompts {path}: {error.strerror}") from error
    if not prompts:
        raise DataError(f"{path} holds no prompt; expected JSON Lines with one a line")
    return Context(name=str(path), prompts=tuple(prompts))


def _prompt(path: Path, number: int, line: bytes) -> str:
    try:
        told = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: line {number} is not JSON: {error}") from error
    text = told if isinstance(told, str) else _of_object(told) if isinstance(told, dict) else ""
    if not text.strip():
        raise DataError(
            f"{path}: line {number} holds no prompt; expected a string, or an object with "
            "'prompt', 'instruction', 'text' or 'messages'"
        )
    return text


def _of_object(told: dict[str, Any]) -> str:
    for key in ("prompt", "instruction", "text"):
        if isinstance(told.get(key), str):
            more = told.get("input") if key == "instruction" else None
            return f"{told[key]}\n\n{more}" if isinstance(more, str) and more else str(told[key])
    messages = told.get("messages")
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, dict) and message.get("role") == "user":
            return str(message.get("content") or "")
    return ""
