"""Examines every pickle of a file: plain, stacked, legacy ``.pt``, with arrays of joblib."""

import base64
from dataclasses import dataclass, field

from gifthorse.provenance.files.arrays import (
    is_joblib_wrapper,
    legacy_storage_bytes,
    skip_joblib_array,
)
from gifthorse.provenance.files.issues import Report, Standing, shown
from gifthorse.provenance.files.limits import Budget
from gifthorse.provenance.files.machine import Facts, Import, Machine, Made
from gifthorse.provenance.files.second_opinion import ask_picklescan
from gifthorse.provenance.files.source import BrokenError, BytesSource, Cursor, Source
from gifthorse.provenance.files.standing import judge, may_call

TORCH_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PICKLES = 5
_MOST_PICKLES = 10_000
_MOST_NESTED = 50


@dataclass(slots=True)
class Walked:
    """All pickles of one source, and where they end."""

    pickles: list[Facts] = field(default_factory=list)
    end: int = 0
    inline_arrays: bool = False
    legacy: bool = False


def walk(source: Source, budget: Budget, start: int = 0) -> Walked:
    """Follow every pickle, one behind the other; stops where none begins.

    Raises:
        LimitReachedError: The budget is spent.
    """
    walked = Walked(end=start)

    def after_build(cursor: Cursor, made: Made) -> None:
        if not is_joblib_wrapper(made):
            return
        walked.inline_arrays = True
        if not skip_joblib_array(cursor, made):
            if len(walked.pickles) > _MOST_NESTED:
                raise BrokenError("too many arrays of objects")
            walked.pickles.append(Machine(cursor, budget).run())

    cursor = Cursor(source, start)
    while cursor.peek(1) and len(walked.pickles) < _MOST_PICKLES:
        budget.tick()
        facts = Machine(cursor, budget, after_build).run()
        if walked.pickles and not facts.stopped and not (facts.imports or facts.calls):
            break
        walked.pickles.append(facts)
        if not facts.stopped:
            walked.end = source.size
            break
        walked.end = facts.end
        if len(walked.pickles) == 1:
            value = facts.value
            walked.legacy = isinstance(value, int) and value == TORCH_MAGIC
        if walked.legacy and len(walked.pickles) == _LEGACY_PICKLES:
            break
    return walked


def examine(source: Source, report: Report, budget: Budget, *, start: int = 0) -> Walked:
    """Report what the pickles of a source would import, call and change.

    Raises:
        LimitReachedError: The budget is spent.
    """
    walked = walk(source, budget, start)
    report_pickles(walked, report)
    for facts in walked.pickles:
        _report_within(facts, report, budget)
    _report_rest(source, walked, report)
    if walked.inline_arrays:
        _report_without_arrays(source, start, report, budget)
    else:
        ask_picklescan(source, start, walked.end, report)
    return walked


def _report_without_arrays(source: Source, start: int, report: Report, budget: Budget) -> None:
    """Whoever opens a file of joblib as a plain pickle runs its array bytes as operations.

    Numbers hardly ever make operations, so only what is dangerous counts here.
    """
    facts = Machine(Cursor(source, start), budget).run()
    for found in facts.imports:
        if found.module and found.name and _is_name(f"{found.module}.{found.name}"):
            standing, why = judge(found.module, found.name)
            if standing is Standing.DANGEROUS:
                report.imported(str(found))
                text = f"imports {shown(str(found))} among the numbers of an array: {why}"
                report.add("pickle-dangerous", standing, text, found.offset)


def report_pickles(walked: Walked, report: Report) -> None:
    """Report the facts of pickles that were followed."""
    for facts in walked.pickles:
        _report_imports(facts, report)
        _report_oddities(facts, report)


def _report_imports(facts: Facts, report: Report) -> None:
    """One issue for every imported name, with the heaviest reason."""
    worst: dict[tuple[str, str], tuple[Standing, str, str, int]] = {}
    for found in facts.imports:
        if found.module is None or found.name is None:
            _report_computed(facts, found, report)
            continue
        report.imported(str(found))
        standing, why = judge(found.module, found.name)
        key = (found.module, found.name)
        if key not in worst or standing > worst[key][0]:
            worst[key] = (standing, "imports", why, found.offset)
    for call in facts.calls:
        callee = call.callee
        if not isinstance(callee, Import) or callee.module is None or callee.name is None:
            continue
        standing, why = may_call(callee.module, callee.name, call.how)
        key = (callee.module, callee.name)
        known = worst.get(key, (Standing.NOTE, "", "", 0))
        if standing > known[0] or (standing == known[0] and known[1] == "imports"):
            worst[key] = (standing, "imports and calls", why, call.offset)
    heavy = sorted(worst.items(), key=lambda item: (-item[1][0], item[1][3]))
    for (module, name), (standing, does, why, offset) in heavy:
        if standing is Standing.NOTE:
            continue
        rule = "pickle-dangerous" if standing is Standing.DANGEROUS else "pickle-unknown"
        report.add(rule, standing, f"{does} {shown(f'{module}.{name}')}: {why}", offset)


def _report_computed(facts: Facts, found: Import, report: Report) -> None:
    """A name that the pickle puts together itself. What follows a failure is not trusted to be."""
    if 0 <= facts.broken_at < found.offset:
        return
    text = "imports a name that is computed while it is read, to hide it"
    report.add("pickle-computed-import", Standing.DANGEROUS, text, found.offset)


def _report_oddities(facts: Facts, report: Report) -> None:
    for target, how, offset in facts.changed:
        text = f"changes {shown(str(target))} itself for the whole process ({how})"
        report.add("pickle-changes-import", Standing.DANGEROUS, text, offset)
    for code in facts.extensions:
        text = f"uses extension code {code}, whose meaning is not in the file"
        report.add("pickle-extension", Standing.UNKNOWN, text)
    for call in facts.calls:
        if not isinstance(call.callee, Import):
            text = "calls something that it made before, not a name that can be judged"
            report.add("pickle-computed-call", Standing.UNKNOWN, text, call.offset)
            break
    if facts.limited:
        text = "does more than is kept for the report"
        report.add("pickle-limit", Standing.UNKNOWN, text)
    if facts.broken:
        text = f"the pickle is broken: {facts.broken}; what comes before still runs when loaded"
        report.add("pickle-broken", Standing.UNKNOWN, text, max(facts.broken_at, 0))


def _report_within(facts: Facts, report: Report, budget: Budget) -> None:
    """Pickles kept as data: nothing loads them by itself, and weights have no use for them."""
    for value, offset in facts.within[:_MOST_NESTED]:
        inner = Machine(Cursor(BytesSource(_decoded(value))), budget).run()
        named = [f for f in inner.imports if f.module and f.name]
        standings = [judge(str(f.module), str(f.name))[0] for f in named]
        if inner.stopped and max(standings, default=Standing.NOTE) is not Standing.NOTE:
            text = f"holds another pickle as data, which would import {shown(str(named[0]))}"
            report.add("pickle-within", Standing.UNKNOWN, text, offset)


def _decoded(value: str | bytes) -> bytes:
    if isinstance(value, bytes):
        return value
    try:
        return bytes.fromhex(value) if value[:2] == "80" else base64.b64decode(value)
    except ValueError:
        return b""


def _report_rest(source: Source, walked: Walked, report: Report) -> None:
    """What lies behind the last pickle."""
    head = source.read_at(walked.end, 1 << 16)
    if not head and not walked.legacy:
        return
    rest = source.size - walked.end
    if walked.legacy:
        expected = None
        if len(walked.pickles) == _LEGACY_PICKLES:
            expected = legacy_storage_bytes(walked.pickles[3])
        if expected == rest:
            return
        announced = "an unknown number" if expected is None else f"{expected:,}"
        text = f"{rest:,} bytes of tensors where {announced} are announced"
        report.add("torch-legacy-size", Standing.UNKNOWN, text, walked.end)
        return
    if not head.strip(b"\0\r\n ") and rest == len(head):
        return
    text = f"{rest:,} bytes behind the last pickle are no pickle and were not understood"
    report.add("pickle-trailing", Standing.UNKNOWN, text, walked.end)


def plausible(source: Source, budget: Budget, *, text: bool) -> bool:
    """Whether bytes without a known beginning are a pickle (protocols 0 and 1 have none).

    ``text`` asks for more evidence, because words and line ends can look like operations.
    """
    if not source.read_at(0, 1):
        return False
    facts = Machine(Cursor(source), budget).run()
    named = [f for f in facts.imports if f.module is None or _is_name(f"{f.module}.{f.name}")]
    if text:
        named = [f for f in named if f.module]
        calls = [c for c in facts.calls if isinstance(c.callee, Import) and c.callee in named]
        grades = [judge(c.callee.module, c.callee.name)[0] for c in calls]
        return Standing.DANGEROUS in grades or (facts.stopped and bool(named))
    return bool(named) or (facts.stopped and not facts.broken and facts.operations > 1)


def _is_name(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))
