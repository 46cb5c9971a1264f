"""The file scan as an audit of its own: `gifthorse audit PATH --files-only`. Needs no torch."""

import resource
from pathlib import Path

from gifthorse.core.errors import DataError
from gifthorse.core.record import AuditRecord, CostRecord, FilesRecord, PlanRecord, SubjectRecord
from gifthorse.core.types import Progress, silent
from gifthorse.provenance.files.limits import Limits
from gifthorse.provenance.files.scan import content_digest, scan_files, state


def audit_files(
    path: str | Path, *, limits: Limits | None = None, progress: Progress = silent
) -> AuditRecord:
    """Examine a file or folder and say so in the record of an audit.

    Nothing is loaded, imported, run or extracted. The record's false-alarm rate is 0 because no
    statistic was judged, not because the rules cannot be wrong.

    Raises:
        DataError: No such path, no file in it, or too many; or something changed meanwhile, so that
            the record would not be about the files whose digest it states.
    """
    before = state(path, limits=limits)
    files = scan_files(path, limits=limits, progress=progress)
    digest = content_digest(path, limits=limits)
    if state(path, limits=limits) != before:
        raise DataError(
            f"{path} changed while it was examined; examine a copy that nobody writes to"
        )
    return files_record(path, files, digest=digest)


def files_record(path: str | Path, files: FilesRecord, *, digest: str) -> AuditRecord:
    """An audit that consists of a file scan."""
    return AuditRecord(
        kind="audit",
        verdict=files.verdict,
        score=None,
        reason=files.reason,
        subject=SubjectRecord(
            kind="files",
            name=str(path),
            digest=digest,
            class_names=(),
            facts={"files": files.examined, "bytes": files.bytes},
        ),
        trusted=None,
        plan=PlanRecord(detectors=(), false_alarm_rate=0.0, seed=0),
        findings=(),
        files=files,
        notes=("only the files were examined; nothing was loaded and no weights were judged",),
        cost=CostRecord(
            seconds=files.seconds,
            forward_passes=0,
            backward_passes=0,
            peak_memory_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        ),
    )
