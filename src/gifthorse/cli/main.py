"""The command line. Each command parses, makes one library call, and prints.

Exit codes: 0 clear or done, 1 flagged or not verified, 2 usage or bad input, 3 incomplete,
130 interrupted.
"""

import sys
from typing import Annotated

import typer
from rich.markup import escape

from gifthorse import __version__
from gifthorse.cli import federated
from gifthorse.cli.audit import audit
from gifthorse.cli.bench import app as bench
from gifthorse.cli.calibrate import calibrate
from gifthorse.cli.console import err
from gifthorse.cli.demo import demo
from gifthorse.cli.export import export
from gifthorse.cli.keygen import keygen
from gifthorse.cli.list import list_plugins
from gifthorse.cli.manifest import manifest
from gifthorse.cli.plant import plant
from gifthorse.cli.quarantine import quarantine
from gifthorse.cli.repair import repair
from gifthorse.cli.report import report
from gifthorse.cli.scan import scan
from gifthorse.cli.sign import sign
from gifthorse.cli.trace import trace
from gifthorse.cli.train import train
from gifthorse.cli.trust import trust
from gifthorse.cli.verify import verify
from gifthorse.core.errors import GifthorseError

app = typer.Typer(
    name="gifthorse",
    help="Look a gift horse in the mouth: find, remove and keep out backdoors in models and data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(audit)
app.command()(scan)
app.command()(calibrate)
app.command()(repair)
app.command()(manifest)
app.command()(trace)
app.command()(quarantine)
app.command()(export)
app.command()(plant)
app.command()(train)
app.command()(report)
app.command()(keygen)
app.command()(sign)
app.command()(verify)
app.add_typer(trust, name="trust")
app.command("list")(list_plugins)
app.command()(demo)
app.add_typer(federated.app, name="federated")
app.add_typer(bench, name="bench")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gifthorse {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Options that come before a command."""


def run() -> None:
    """Entry point of the ``gifthorse`` command."""
    try:
        app()
    except GifthorseError as error:
        err.print(f"[bold red]gifthorse:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        err.print("gifthorse: interrupted")
        sys.exit(130)
