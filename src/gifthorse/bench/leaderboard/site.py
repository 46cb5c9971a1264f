"""Writes the leaderboard: static pages that need no network and no server.

``index.html`` holds the table of all trials as data and a small script of our own that filters,
sorts and pivots it; the content security policy allows that script by its digest, and nothing else.
Every trial has a page of its own, drawn with the parts of our reports.
"""

import base64
import hashlib
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, PackageLoader
from markupsafe import Markup

from gifthorse.bench.leaderboard.figures import (
    cost_and_quality,
    one_line,
    sample_curve,
    sample_curves,
    subject_curves,
)
from gifthorse.bench.ledger import Ledger
from gifthorse.bench.published import compare
from gifthorse.bench.review import Remark, review
from gifthorse.bench.superseded import current
from gifthorse.bench.table import Row, rows, write_csv, write_parquet
from gifthorse.bench.trial_record import TrialRecord
from gifthorse.core.errors import DataError, LedgerError
from gifthorse.report.html import environment

_OURS = '<meta name="generator" content="gifthorse bench">'
_SHORT = 16
"""Digits of a trial's id in the name of its page."""

_COLUMNS = (
    *("data", "seed", "status", "reason", "attack", "attack_label", "role", "defence"),
    *("defence_label", "ca", "ca_low", "ca_high", "asr", "asr_low", "asr_high", "ra", "ra_low"),
    *("ra_high", "background", "ca_before", "asr_before", "ra_before", "der", "der_low"),
    *("der_high", "auc", "auc_low", "auc_high", "tpr", "fpr", "accepted", "verdict", "statistic"),
    *("threshold", "p_value", "target_rank", "seconds"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What was written."""

    index: Path
    pages: int
    remarks: int


def build_site(root: Path, out: Path) -> Site:
    """Write the site of a ledger.

    Args:
        root: The ledger.
        out: New, empty, or an earlier site, which is replaced.

    Raises:
        LedgerError: No ledger, an empty one, or the place cannot be written.
        DataError: ``out`` holds something else.
    """
    ledger = Ledger.open(root)
    records = sorted(current(ledger.records())[0], key=lambda r: (*r.label, r.trial.seed, r.id))
    if not records:
        raise LedgerError(f"{root} holds no trials yet; run a study first")
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not _is_site(out))):
        raise DataError(f"{out} holds something that is no site of ours; choose another place")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
        try:
            site = _write(ledger, records, scratch, out)
            scratch.chmod(0o755)
            if out.exists():
                shutil.rmtree(out)
            scratch.rename(out)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise LedgerError(f"cannot write the site {out}: {error.strerror}") from error
    return site


def _write(ledger: Ledger, records: list[TrialRecord], place: Path, out: Path) -> Site:
    table, remarks = rows(records), review(records)
    pages = _environment()
    (place / "trials").mkdir()
    bare = {r.trial.planted_id: r for r in records if r.trial.role == "none"}
    said: dict[str, list[Remark]] = {}
    for remark in remarks:
        said.setdefault(remark.trial, []).append(remark)
    template = pages.get_template("trial.html.j2")
    for record in records:
        curve = sample_curve(ledger, record)
        auc = record.detection.sample_auc if record.detection else None
        line = one_line("samples", curve, auc.value) if curve and auc else None
        text = template.render(
            record=record,
            planted=bare.get(record.trial.planted_id),
            remarks=said.get(record.id, []),
            line=line,
            short=_SHORT,
            specification=json.dumps(record.trial.model_dump(mode="json"), indent=2),
        )
        (place / "trials" / f"{record.id[:_SHORT]}.html").write_text(text, encoding="utf-8")
    write_csv(table, place / "trials.csv")
    write_parquet(table, place / "trials.parquet")
    (place / "index.html").write_text(_index(ledger, records, table, remarks), encoding="utf-8")
    return Site(index=out / "index.html", pages=len(records), remarks=len(remarks))


def _index(
    ledger: Ledger, records: list[TrialRecord], table: Sequence[Row], remarks: Sequence[Remark]
) -> str:
    script = _asset("app.js")
    seal = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    kinds: dict[str, list[str]] = {}
    for remark in remarks:
        kinds.setdefault(remark.trial, []).append(remark.kind)
    data = {
        "columns": _COLUMNS,
        "rows": [[line[name] for name in _COLUMNS] for line in table],
        "pages": [f"trials/{str(line['id'])[:_SHORT]}.html" for line in table],
        "remarks": [sorted(set(kinds.get(str(line["id"]), []))) for line in table],
    }
    named = {record.id: record for record in records}
    studies = ledger.studies()
    comparison = compare(records)
    return (
        _environment()
        .get_template("index.html.j2")
        .render(
            studies=studies,
            title=" · ".join(dict.fromkeys(s.title for s in studies)) or "Leaderboard",
            counts=_counts(records),
            remarks=[(remark, named[remark.trial]) for remark in remarks],
            remark_kinds=Counter(remark.kind for remark in remarks).most_common(),
            subject_lines=subject_curves(records),
            sample_lines=sample_curves(ledger, records),
            plane=cost_and_quality(records),
            comparison=comparison if comparison.cells else None,
            newest=max(record.circumstances.created for record in records),
            versions=records[0].trial.versions,
            script=Markup(script),  # noqa: S704 - our own file
            seal=seal,
            data=Markup(_embedded(data)),  # noqa: S704 - JSON without a way out of its element
            short=_SHORT,
        )
    )


def _counts(records: Sequence[TrialRecord]) -> dict[str, int]:
    return {
        "trials": len(records),
        "attacks": len({r.label[0] for r in records if r.trial.attack is not None}),
        "detectors": len({r.label[1] for r in records if r.trial.role == "detector"}),
        "repairs": len({r.label[1] for r in records if r.trial.role == "repair"}),
        "seeds": len({r.trial.seed for r in records}),
        "failed": sum(r.status == "failed" for r in records),
    }


def _embedded(data: object) -> str:
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _environment() -> Environment:
    """The parts of our reports, and the pages of this site."""
    ours = environment()
    assert ours.loader is not None  # noqa: S101 - reports have templates
    found = ours.overlay(
        loader=ChoiceLoader([PackageLoader("gifthorse.bench.leaderboard"), ours.loader])
    )
    found.globals = {**ours.globals, "site_stylesheet": Markup(_asset("site.css"))}  # noqa: S704
    return found


def _asset(name: str) -> str:
    place = files("gifthorse.bench.leaderboard").joinpath("templates", name)
    return place.read_text(encoding="utf-8")


def _is_site(out: Path) -> bool:
    index = out / "index.html"
    return index.is_file() and _OURS in index.read_text(encoding="utf-8", errors="replace")[:2000]
