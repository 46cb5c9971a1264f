"""The file scan in plain words, for every format."""

from gifthorse.core.record import AuditRecord, FileRecord, FilesRecord, IssueRecord
from gifthorse.core.types import Verdict

MEANINGS = {
    Verdict.FLAGGED: (
        "At least one file can run code when it is loaded, or hides something. Nothing of it was "
        "loaded or run to find out.",
        "Do not load these files. Get the weights as safetensors from a source you trust.",
    ),
    Verdict.CLEAR: (
        "No file can run code when it is loaded, as far as is known. The weights themselves were "
        "not judged: a backdoor in them looks like any other number.",
        "Audit the model itself, without --files-only, before you rely on it.",
    ),
    Verdict.INCONCLUSIVE: (
        "Some files are unknown, or could not be examined to the end. Treat them as unchecked, "
        "not as clean.",
        "Look at the files listed below; remove those that are not needed.",
    ),
}


def decide(record: AuditRecord) -> bool:
    """Whether the verdict is that of the file scan, not that of a detector."""
    files = record.files
    if files is None or files.verdict is not record.verdict:
        return False
    return not any(finding.verdict is record.verdict for finding in record.findings)


def heavy(record: AuditRecord) -> tuple[FileRecord, ...]:
    """Files that are not clear, worst first."""
    files = record.files.files if record.files is not None else ()
    return tuple(file for file in files if file.verdict is not Verdict.CLEAR)


def place(file: FileRecord, issue: IssueRecord) -> str:
    """Where an issue is: the file, and the place within an archive."""
    return f"{file.path}!/{issue.member}" if issue.member else file.path


def summary(files: FilesRecord) -> str:
    """How many files were examined, and what they come to."""
    seen = [file.verdict for file in files.files]
    flagged, open_ = seen.count(Verdict.FLAGGED), seen.count(Verdict.INCONCLUSIVE)
    clear = files.examined - flagged - open_
    return (
        f"{files.examined} {'file' if files.examined == 1 else 'files'} examined without loading "
        f"any: {flagged} flagged, {open_} not judged, {clear} clear."
    )
