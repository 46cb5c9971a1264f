"""`gifthorse trust`: looking at a policy."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from gifthorse.cli.console import out

trust = typer.Typer(name="trust", help="Look at a trust policy.", no_args_is_help=True)


@trust.callback()
def _group() -> None:
    """Look at a trust policy."""


@trust.command()
def explain(
    policy: Annotated[Path, typer.Argument(help="trust.toml.")],
    name: Annotated[
        str | None, typer.Option("--name", help="Only the rule for a model of this name.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check a policy and say in words what it allows.

    Exit code: 0 a valid policy, 1 no rule for the name, 2 not a valid policy.

    Examples:
      gifthorse trust explain trust.toml

      gifthorse trust explain trust.toml --name acme/signs
    """
    from gifthorse.provenance.explain import explain_policy
    from gifthorse.provenance.policy import read_policy

    lines = explain_policy(read_policy(policy), name=name)
    if as_json:
        typer.echo(json.dumps(lines, indent=2))
        return
    for line in lines:
        out.print(escape(line), soft_wrap=True)
