"""The ledger as a flat table, one row a trial: for pandas, DuckDB, spreadsheets and the site."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gifthorse.bench.trial_record import TrialRecord
from gifthorse.core.errors import LedgerError
from gifthorse.core.record import Rate

Row = dict[str, str | int | float | bool | None]


def row(record: TrialRecord) -> Row:
    """One trial as plain values; rates in [0, 1] with the ends of their intervals."""
    trial, detection, repaired = record.trial, record.detection, record.repaired
    quality, cost = record.quality, record.circumstances.cost
    found: Row = {
        "id": record.id,
        "status": record.status,
        "reason": record.reason,
        "data": trial.data.source,
        "architecture": trial.model.architecture,
        "seed": trial.seed,
        "attack": trial.attack.name if trial.attack else "",
        "attack_label": record.label[0],
        "poison_rate": _number(trial.attack.params.get("rate")) if trial.attack else None,
        "role": trial.role,
        "defence": trial.defence.name if trial.defence else "",
        "defence_label": record.label[1],
        "on": trial.on or "",
        "poisoned_samples": record.poisoned_samples,
    }
    rates = {
        "ca": quality.clean_accuracy if quality else None,
        "asr": quality.attack_success_rate if quality else None,
        "ra": quality.robust_accuracy if quality else None,
        "background": quality.background if quality else None,
        "ca_before": repaired.before.clean_accuracy if repaired else None,
        "asr_before": repaired.before.attack_success_rate if repaired else None,
        "ra_before": repaired.before.robust_accuracy if repaired else None,
        "tpr": detection.true_positive_rate if detection else None,
        "fpr": detection.false_positive_rate if detection else None,
    }
    for name, rate in rates.items():
        found |= _rate(name, rate)
    der = repaired.defence_effectiveness if repaired else None
    auc = detection.sample_auc if detection else None
    for name, interval in (("der", der), ("auc", auc)):
        found[name] = interval.value if interval else None
        found[f"{name}_low"] = interval.low if interval else None
        found[f"{name}_high"] = interval.high if interval else None
    return {
        **found,
        "accepted": repaired.accepted if repaired else None,
        "verdict": detection.verdict.value if detection else "",
        "statistic": detection.statistic if detection else None,
        "threshold": detection.threshold if detection else None,
        "p_value": detection.p_value if detection else None,
        "target_rank": detection.target_rank if detection else None,
        "seconds": cost.seconds,
        "processor_seconds": cost.processor_seconds,
        "forward_passes": cost.forward_passes,
        "backward_passes": cost.backward_passes,
        "engine": record.circumstances.engine,
        "created": record.circumstances.created,
        "versions": ", ".join(f"{k} {v}" for k, v in sorted(trial.versions.items())),
    }


def rows(records: Sequence[TrialRecord]) -> list[Row]:
    """All trials, in an order that does not depend on when they ran."""
    return sorted(
        (row(record) for record in records),
        key=lambda r: tuple(
            str(r[k]) for k in ("data", "attack_label", "role", "defence_label", "seed", "id")
        ),
    )


def to_csv(table: Sequence[Row]) -> str:
    """The table as CSV with a header. Text that a spreadsheet would run is quoted with a mark."""
    out = io.StringIO()
    names = list(table[0]) if table else ["id"]
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: _harmless(v) for k, v in line.items()} for line in table)
    return out.getvalue()


def write_csv(table: Sequence[Row], path: Path) -> None:
    """The table as a CSV file.

    Raises:
        LedgerError: The file cannot be written.
    """
    try:
        path.write_text(to_csv(table), encoding="utf-8")
    except OSError as error:
        raise LedgerError(f"cannot write {path}: {error.strerror}") from error


def write_parquet(table: Sequence[Row], path: Path) -> None:
    """The table as Parquet: columns keep their types, empty ones too.

    Raises:
        LedgerError: The file cannot be written.
    """
    import pyarrow as pa
    from pyarrow import parquet

    columns: dict[str, Any] = {}
    for name in table[0] if table else ["id"]:
        values = [line[name] for line in table]
        kinds = {type(value) for value in values if value is not None}
        kind = pa.float64() if not kinds or float in kinds else None
        columns[name] = pa.array(values, type=kind)
    scratch = path.with_name(f".{path.name}.tmp")
    try:
        parquet.write_table(pa.table(columns), scratch)
        scratch.replace(path)
    except OSError as error:
        raise LedgerError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        scratch.unlink(missing_ok=True)


def _rate(name: str, rate: Rate | None) -> Row:
    return {
        name: rate.value if rate else None,
        f"{name}_low": rate.low if rate else None,
        f"{name}_high": rate.high if rate else None,
        f"{name}_total": rate.total if rate else None,
    }


def _number(value: object) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number else None  # type: ignore[arg-type]


def _harmless(value: object) -> object:
    """A cell that begins like a formula is run by some spreadsheets."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t"):
        return f"'{value}"
    return value
