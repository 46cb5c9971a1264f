"""`gifthorse report`."""

from pathlib import Path
from typing import Annotated

import typer

from gifthorse.cli.console import out as console
from gifthorse.core.record import read_record
from gifthorse.report.write import write_report


def report(
    record: Annotated[Path, typer.Argument(help="A record: what --json printed.")],
    out: Annotated[Path, typer.Argument(help="The report: .html, .md, .sarif or .json.")],
) -> None:
    """Turn a record into a page.

    Example:
      gifthorse audit ./model --trusted fashion-mnist --json > audit.json

      gifthorse report audit.json audit.html
    """
    write_report(read_record(record), out)
    console.print(f"report: {out}")
