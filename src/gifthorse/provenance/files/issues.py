"""What the examiners of this package report, and the words they share."""

from dataclasses import dataclass, field
from enum import IntEnum

from gifthorse.core.record import IssueRecord
from gifthorse.core.types import Verdict

_MOST_TEXT = 300
_MOST_ISSUES = 200
_MOST_IMPORTS = 500


class Standing(IntEnum):
    """How much an issue weighs; a file weighs as much as its heaviest issue."""

    NOTE = 0
    UNKNOWN = 1
    DANGEROUS = 2

    @property
    def verdict(self) -> Verdict:
        """The verdict of a file on which this is the heaviest."""
        return (Verdict.CLEAR, Verdict.INCONCLUSIVE, Verdict.FLAGGED)[self]


def shown(text: object) -> str:
    """Something taken from a file, short and in quotes, for a message."""
    found = repr(text)
    return found if len(found) <= 90 else f"{found[:80]}…{found[-1]}"


@dataclass(slots=True)
class Report:
    """Collects what is found in one file on disk; members of archives share its lists.

    Attributes:
        member: The member that is being examined, outer archives first, joined by ``!/``.
        formats: What it turned out to be, outermost first.
    """

    member: str = ""
    formats: list[str] = field(default_factory=list)
    issues: dict[tuple[str, str, str], IssueRecord] = field(default_factory=dict)
    imports: dict[str, None] = field(default_factory=dict)
    hidden: list[Standing] = field(default_factory=list)

    def inside(self, name: str) -> "Report":
        """The same report for a member of an archive."""
        member = f"{self.member}!/{name}" if self.member else name
        return Report(member, self.formats, self.issues, self.imports, self.hidden)

    def add(self, rule: str, standing: Standing, text: str, offset: int | None = None) -> None:
        """Report one thing. Repetitions are reported once."""
        if len(text) > _MOST_TEXT:
            text = text[: _MOST_TEXT - 1] + "…"
        key = (rule, text, self.member)
        if key in self.issues:
            return
        if len(self.issues) >= _MOST_ISSUES and standing is not Standing.DANGEROUS:
            self.hidden.append(standing)
            return
        if len(self.issues) >= 2 * _MOST_ISSUES:
            self.hidden.append(standing)
            return
        self.issues[key] = IssueRecord(
            rule=rule, verdict=standing.verdict, text=text, member=self.member, offset=offset
        )

    def imported(self, name: str) -> None:
        """Remember what would be imported."""
        if len(self.imports) < _MOST_IMPORTS:
            self.imports[name[:200]] = None

    @property
    def standing(self) -> Standing:
        """The heaviest of all that was found."""
        weights = {Verdict.CLEAR: 0, Verdict.INCONCLUSIVE: 1, Verdict.FLAGGED: 2}
        seen = [Standing(weights[issue.verdict]) for issue in self.issues.values()]
        return max([Standing.NOTE, *seen, *self.hidden])
