"""Writes the pages that are made from code: command line reference and record schema.

``--check`` writes nothing and fails if a page is out of date.
"""

import json
import os
import sys
from pathlib import Path

import typer

os.environ["COLUMNS"] = "100"
os.environ["TERMINAL_WIDTH"] = "100"
os.environ["NO_COLOR"] = "1"

DOCS = Path(__file__).parent


def _commands(app: typer.Typer, group: str = "") -> list[str]:
    """A group itself, its commands, and the groups within it."""
    names = [c.name or c.callback.__name__ for c in app.registered_commands if c.callback]
    found = [group, *(f"{group} {name}".strip() for name in names)]
    for inner in app.registered_groups:
        if inner.typer_instance is not None:
            found += _commands(inner.typer_instance, f"{group} {inner.name}".strip())
    return found


def command_line() -> str:
    """`--help` of every command."""
    from typer.testing import CliRunner

    from gifthorse.cli.main import app

    runner = CliRunner()
    parts = ["# Command line\n\nMade by `make docs`; do not edit.\n"]
    for command in _commands(app):
        text = runner.invoke(app, [*command.split(), "--help"], prog_name="gifthorse").output
        lines = [line.rstrip() for line in text.strip().splitlines()]
        title = f"gifthorse {command}".strip()
        parts.append(f"## {title}\n\n```text\n" + "\n".join(lines) + "\n```\n")
    return "\n".join(parts)


def schema() -> str:
    """The JSON schema of all records."""
    from gifthorse.core.record import record_schema

    return json.dumps(record_schema(), indent=2, sort_keys=True) + "\n"


def trust() -> str:
    """The JSON schema of ``trust.toml``, which editors understand for TOML too."""
    from gifthorse.provenance.policy import PolicyFile

    return json.dumps(PolicyFile.model_json_schema(), indent=2, sort_keys=True) + "\n"


def trial() -> str:
    """The JSON schema of a trial in a ledger."""
    from gifthorse.bench.trial_record import trial_schema

    return json.dumps(trial_schema(), indent=2, sort_keys=True) + "\n"


def bank() -> str:
    """The JSON schema of a reference bank."""
    from gifthorse.auditing.banks import Bank

    return json.dumps(Bank.model_json_schema(), indent=2, sort_keys=True) + "\n"


def main() -> int:
    """Write or check all pages."""
    pages = {
        DOCS / "reference" / "command-line.md": command_line(),
        DOCS / "formats" / "bank.schema.json": bank(),
        DOCS / "formats" / "record.schema.json": schema(),
        DOCS / "formats" / "trial.schema.json": trial(),
        DOCS / "formats" / "trust.schema.json": trust(),
    }
    stale = [p for p, text in pages.items() if not p.exists() or p.read_text("utf-8") != text]
    if "--check" in sys.argv:
        for path in stale:
            print(f"out of date: {path}; run `make docs`")
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(pages[path], encoding="utf-8")
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
