"""`gifthorse export`."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.markup import escape

from gifthorse.cli.console import out
from gifthorse.core.errors import DataError


def export(
    what: Annotated[
        Path,
        typer.Argument(
            help="Model directory with provenance.json (or such a file), or a manifest for "
            "croissant."
        ),
    ],
    form: Annotated[
        Literal["cyclonedx", "spdx", "croissant"], typer.Option("--format", help="What to write.")
    ],
    place: Annotated[
        Path | None, typer.Option("--out", help="Write to a file instead of standard output.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--license", help="Of the data, for croissant: URL or SPDX id.")
    ] = None,
    url: Annotated[
        str | None, typer.Option("--url", help="Where the data is described, for croissant.")
    ] = None,
) -> None:
    """Write a bill of materials of a model, or the metadata of a data set, for other tools.

    Examples:
      gifthorse export ./model --format cyclonedx --out model.cdx.json

      gifthorse export ./model --format spdx --out model.spdx3.json

      gifthorse export train.manifest --format croissant --license CC-BY-4.0
    """
    text = json.dumps(_made(what, form, licence, url), indent=2) + "\n"
    if place is None:
        typer.echo(text, nl=False)
        return
    try:
        place.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot write {place}: {error.strerror or error}") from error
    out.print(f"{form}: {escape(str(place))}")


def _made(what: Path, form: str, licence: str | None, url: str | None) -> Any:
    if form == "croissant":
        from gifthorse.provenance.exporting.croissant import croissant
        from gifthorse.provenance.manifest import open_manifest

        return croissant(open_manifest(what), licence=licence, url=url)
    from gifthorse.provenance.documents import read_document, statement_in
    from gifthorse.provenance.exporting.cyclonedx import cyclonedx
    from gifthorse.provenance.exporting.spdx import spdx
    from gifthorse.provenance.runs import run_of, statement_place

    run = run_of(statement_in(read_document(statement_place(what) if what.is_dir() else what)))
    return cyclonedx(run) if form == "cyclonedx" else spdx(run)
