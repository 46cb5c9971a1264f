"""A record into a file, in the format that the file's name asks for."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from gifthorse.core.errors import RecordError
from gifthorse.core.record import AuditRecord, PlantRecord, RepairRecord, StoryRecord
from gifthorse.report.html import render_html
from gifthorse.report.markdown import render_markdown
from gifthorse.report.sarif import render_sarif

AnyRecord = AuditRecord | RepairRecord | PlantRecord | StoryRecord


def write_report(record: AnyRecord, path: Path) -> None:
    """Write a record as HTML, Markdown, SARIF or JSON, chosen by the suffix of ``path``.

    The file appears whole or not at all: it is written beside its place and then moved there.

    Raises:
        RecordError: Unknown suffix, or the file cannot be written.
    """
    _write(_renderer(path)(record), path)


def write_page(text: str, path: Path) -> None:
    """Write a page that was rendered already.

    Raises:
        RecordError: The name does not end in .html, or the file cannot be written.
    """
    if path.suffix.lower() != ".html":
        raise RecordError(f"this page is HTML: {path.name!r} must end in .html")
    _write(text, path)


def _write(text: str, path: Path) -> None:
    # Beside the target, because a move is atomic only within one file system; exclusive, so that
    # nobody can plant a link under the temporary name; and with the user's usual permissions.
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise RecordError(f"cannot write the report {path}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _renderer(path: Path) -> Callable[[AnyRecord], str]:
    formats: dict[str, Callable[[AnyRecord], str]] = {
        ".html": render_html,
        ".md": render_markdown,
        ".sarif": render_sarif,
        ".sarif.json": render_sarif,
        ".json": _render_json,
    }
    name = path.name.lower()
    # The longest suffix first: “x.sarif.json” ends in “.json” too.
    for suffix in sorted(formats, key=len, reverse=True):
        if name.endswith(suffix):
            return formats[suffix]
    known = ", ".join(formats)
    raise RecordError(f"no report format for {path.name!r}: the name must end in one of {known}")


def _render_json(record: AnyRecord) -> str:
    return record.model_dump_json(indent=2) + "\n"
