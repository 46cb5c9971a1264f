"""`gifthorse list`."""

import dataclasses
import inspect
import json
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from gifthorse.cli.console import out
from gifthorse.core.errors import SpecError
from gifthorse.core.protocols import attacker_needs
from gifthorse.core.registry import KINDS, names, plugin_class


def list_plugins(
    kind: Annotated[
        str | None,
        typer.Argument(help="Kind, such as attack, detector, aggregator; all if left out."),
    ] = None,
    name: Annotated[str | None, typer.Argument(help="One plugin: its page.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what is installed, with options, papers and needs.

    Attacks, detectors, repairs, aggregators and client attacks of federated learning, and what
    works on texts and language models.

    Examples:
      gifthorse list

      gifthorse list detector neural_cleanse
    """
    kinds = [_plural(kind)] if kind else list(KINDS)
    if name is not None:
        _show_page(describe(kinds[0], name), as_json=as_json)
        return
    found = {k: [describe(k, n) for n in names(k)] for k in kinds}
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    table = Table(box=None)
    for heading in ("kind", "name"):  # whole even in a narrow terminal: a name is typed again
        table.add_column(heading, no_wrap=True)
    for heading in ("what", "paper"):
        table.add_column(heading)
    for k, pages in found.items():
        for page in pages:
            table.add_row(k[:-1], page["name"], escape(page["summary"]), escape(page["paper"]))
    out.print(table)


def describe(kind: str, name: str) -> dict[str, Any]:
    """A plugin's page as plain values."""
    cls = plugin_class(kind, name)
    text = inspect.getdoc(cls) or ""
    return {
        "name": name.replace("-", "_"),
        "kind": kind[:-1],
        "summary": text.split("\n", 1)[0],
        "description": text,
        "paper": str(getattr(cls, "paper", "")),
        "needs": _needs(kind, cls),
        "options": {f.name: f.default for f in dataclasses.fields(cls) if f.init},
    }


def _needs(kind: str, cls: type[Any]) -> list[str]:
    """What a defence must be given, or what an attacker must control."""
    if kind == "attacks":
        return list(attacker_needs(cls))
    return sorted(need.value for need in getattr(cls, "needs", ()))


def _plural(kind: str) -> str:
    plural = kind if kind.endswith("s") else f"{kind}s"
    if plural not in KINDS:
        known = ", ".join(one[:-1] for one in KINDS)
        raise SpecError(f"no kind of plugin is called {kind!r}; known: {known}")
    return plural


def _show_page(page: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(page, indent=2))
        return
    out.print(f"[bold]{page['kind']} {page['name']}[/]   {escape(page['paper'])}\n")
    out.print(escape(page["description"]))
    if page["needs"]:
        out.print(f"\nneeds: {', '.join(page['needs'])}")
    table = Table("option", "default", box=None)
    for option, default in page["options"].items():
        table.add_row(option, escape(repr(default)))
    out.print(table)
