"""A record as one self-contained HTML page."""

from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from gifthorse.core.record import AuditRecord, PlantRecord, RepairRecord, StoryRecord
from gifthorse.core.types import Unit, Verdict
from gifthorse.report import charts, marks, words, words_files


def render_html(record: AuditRecord | RepairRecord | PlantRecord | StoryRecord) -> str:
    """Render a record as one HTML file that needs no network, no script and no other file.

    Everything taken from the record is escaped: names in it come from files that nobody vouches
    for. The same record gives the same page, byte for byte.
    """
    return environment().get_template("page.html.j2").render(record=record)


@cache
def environment() -> Environment:
    """Build the template environment once; nobody changes it afterwards."""
    found = Environment(
        loader=PackageLoader("gifthorse.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    found.filters.update(
        {
            "count": words.count,
            "measured": words.measured,
            "memory": words.memory,
            "named": words.title,
            "number": words.number,
            "p_value": words.p_value,
            "percent": words.percent,
            "seconds": words.seconds,
            "shorten": words.shorten,
        }
    )
    found.globals.update(
        {
            "Unit": Unit,
            "Verdict": Verdict,
            "charts": charts,
            "marks": marks,
            "words": words,
            "words_files": words_files,
            "stylesheet": _stylesheet(),
        }
    )
    return found


def _finalize(value: object) -> object:
    """Strip characters that act instead of showing; called by Jinja before escaping."""
    return words.harmless(value) if isinstance(value, str) and not _is_markup(value) else value


def _is_markup(value: str) -> bool:
    return isinstance(value, Markup)


def _stylesheet() -> Markup:
    """Our own file, so it may go into the page as it is."""
    text = files("gifthorse.report").joinpath("templates/report.css").read_text(encoding="utf-8")
    return Markup(text)  # noqa: S704
