"""Follows a pickle operation by operation with values that only stand for objects.

Nothing is imported, called or built. What the real machine would import and call is kept as facts,
also beyond the point at which the real one would give up, so the facts are never too few.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from gifthorse.provenance.files.limits import Budget, LimitReachedError
from gifthorse.provenance.files.opcodes import Blob, next_operation
from gifthorse.provenance.files.source import BrokenError, Cursor, TruncatedError

_MOST_FACTS = 5_000
_MOST_KEYS = 64
_MOST_STACK = 2_000_000
_TICK = 4096


@dataclass(frozen=True, slots=True)
class Import:
    """``module`` and ``name`` that would be imported, at ``offset``; None if computed."""

    module: str | None
    name: str | None
    offset: int

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(slots=True)
class Made:
    """What calling something gave."""

    callee: Any
    arguments: Any
    state: Any = None


@dataclass(slots=True)
class Table:
    """A dict; the first string keys are kept."""

    items: dict[str, Any] = field(default_factory=dict)


class Unknown:
    """Some object that cannot be an import, such as a list."""


_UNKNOWN = Unknown()
_MARK = Unknown()


@dataclass(frozen=True, slots=True)
class Call:
    """Something is called: ``how`` is the operation."""

    callee: Any
    arguments: Any
    how: str
    offset: int


@dataclass(slots=True)
class Facts:
    """What one pickle would do.

    Attributes:
        start: Offset of its first byte.
        end: Offset behind its last byte.
        stopped: Whether it ends with STOP.
        broken: Why the real machine would fail, if it would.
        broken_at: Offset at which it would fail.
        changed: (what, operation, offset) of imported objects that are changed, not copies of them.
        extensions: Codes of the extension registry, whose meaning is outside the file.
        persistent: Ids that the loading program resolves.
        within: (value, offset) of strings and bytes that look like pickles themselves.
        value: What the pickle yields.
        limited: Facts or objects were too many to keep.
    """

    start: int
    end: int = 0
    stopped: bool = False
    broken: str = ""
    broken_at: int = -1
    operations: int = 0
    imports: list[Import] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    changed: list[tuple[Any, str, int]] = field(default_factory=list)
    extensions: list[int] = field(default_factory=list)
    persistent: list[Any] = field(default_factory=list)
    within: list[tuple[str | bytes, int]] = field(default_factory=list)
    value: Any = None
    limited: bool = False


def _may_be_pickle(value: str | bytes) -> bool:
    """Whether a constant begins as pickles of protocol 2 and above do: plain, in base64 or hex."""
    if isinstance(value, bytes):
        return value[:1] == b"\x80" and value[-1:] == b"."
    return value.startswith(("gA", "8002", "8003", "8004", "8005"))


Hook = Callable[[Cursor, Made], None]
"""Called after an object got its state; may move the cursor past bytes that follow."""


class Machine:
    """Runs the operations of one pickle on stand-ins."""

    def __init__(self, cursor: Cursor, budget: Budget, after_build: Hook | None = None) -> None:
        self.cursor = cursor
        self.budget = budget
        self.after_build = after_build
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.facts = Facts(cursor.offset)
        self.at = cursor.offset

    def run(self) -> Facts:
        """Go to STOP, the end or the first thing that is no operation.

        Raises:
            LimitReachedError: The budget is spent.
        """
        facts = self.facts
        most = self.budget.limits.entries * 1000
        try:
            while True:
                self.at = self.cursor.offset
                name, argument = next_operation(self.cursor)
                facts.operations += 1
                if facts.operations % _TICK == 0:
                    self.budget.tick()
                    if facts.operations > most or len(self.stack) > _MOST_STACK:
                        text = f"a pickle of over {facts.operations:,} operations"
                        raise LimitReachedError(text)
                if name == "STOP":
                    facts.stopped = True
                    facts.value = self.pop()
                    break
                getattr(self, f"_do_{name.lower()}", self._plain)(name, argument)
        except (BrokenError, TruncatedError) as error:
            self.fail(str(error))
        facts.end = self.cursor.offset
        return facts

    def fail(self, why: str) -> None:
        """Remember the first reason why the real machine would fail."""
        if not self.facts.broken:
            self.facts.broken, self.facts.broken_at = why, self.at

    def note(self, where: list[Any], what: Any) -> None:
        """Keep a fact, unless there are too many."""
        if len(where) < _MOST_FACTS:
            where.append(what)
        else:
            self.facts.limited = True

    # -- the stack

    def pop(self) -> Any:
        """The top of the stack; something unknown, and a failure, if there is none."""
        if not self.stack or self.stack[-1] is _MARK:
            self.fail(f"takes from an empty stack at byte {self.at:,}")
            return _UNKNOWN
        return self.stack.pop()

    def top(self) -> Any:
        """As ``pop``, and leave it there."""
        value = self.pop()
        self.stack.append(value)
        return value

    def to_mark(self) -> list[Any]:
        """Everything above the last mark, and remove the mark."""
        for place in range(len(self.stack) - 1, -1, -1):
            if self.stack[place] is _MARK:
                found = self.stack[place + 1 :]
                del self.stack[place:]
                return found
        self.fail(f"looks for a mark that was not set at byte {self.at:,}")
        found, self.stack = self.stack, []
        return found

    def _plain(self, name: str, argument: Any) -> None:
        """Operations that push a constant, or do nothing that matters here."""
        if name in ("PROTO", "FRAME", "READONLY_BUFFER"):
            return
        constants = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
        value = constants.get(name, argument)
        if isinstance(value, str | bytes) and _may_be_pickle(value):
            self.note(self.facts.within, (value, self.at))
        self.stack.append(_UNKNOWN if isinstance(value, Blob) else value)

    def _do_mark(self, _: str, __: Any) -> None:
        self.stack.append(_MARK)

    def _do_pop(self, _: str, __: Any) -> None:
        if self.stack and self.stack[-1] is _MARK:
            self.stack.pop()
        else:
            self.pop()

    def _do_pop_mark(self, _: str, __: Any) -> None:
        self.to_mark()

    def _do_dup(self, _: str, __: Any) -> None:
        self.stack.append(self.top())

    # -- containers

    def _fresh(self, _: str, __: Any) -> None:
        self.stack.append(_UNKNOWN)

    _do_empty_list = _do_empty_set = _do_next_buffer = _fresh

    def _from_mark(self, _: str, __: Any) -> None:
        self.to_mark()
        self.stack.append(_UNKNOWN)

    _do_list = _do_frozenset = _from_mark

    def _do_empty_dict(self, _: str, __: Any) -> None:
        self.stack.append(Table())

    def _do_dict(self, _: str, __: Any) -> None:
        table = Table()
        self._fill(table, self.to_mark())
        self.stack.append(table)

    def _do_empty_tuple(self, _: str, __: Any) -> None:
        self.stack.append(())

    def _do_tuple(self, _: str, __: Any) -> None:
        self.stack.append(tuple(self.to_mark()))

    def _do_tuple1(self, name: str, __: Any) -> None:
        taken = [self.pop() for _ in range(int(name[-1]))]
        self.stack.append(tuple(reversed(taken)))

    _do_tuple2 = _do_tuple3 = _do_tuple1

    @staticmethod
    def _fill(table: Table, flat: list[Any]) -> None:
        for key, value in zip(flat[::2], flat[1::2], strict=False):
            if isinstance(key, str) and (key in table.items or len(table.items) < _MOST_KEYS):
                table.items[key] = value

    def _changes(self, target: Any, name: str) -> None:
        if isinstance(target, Import):
            self.note(self.facts.changed, (target, name, self.at))

    def _do_append(self, name: str, _: Any) -> None:
        self.pop()
        self._changes(self.top(), name)

    def _do_appends(self, name: str, _: Any) -> None:
        self.to_mark()
        self._changes(self.top(), name)

    _do_additems = _do_appends

    def _do_setitem(self, name: str, _: Any) -> None:
        value, key = self.pop(), self.pop()
        target = self.top()
        self._changes(target, name)
        if isinstance(target, Table):
            self._fill(target, [key, value])

    def _do_setitems(self, name: str, _: Any) -> None:
        flat, target = self.to_mark(), self.top()
        self._changes(target, name)
        if isinstance(target, Table):
            self._fill(target, flat)

    # -- the memo

    def _do_put(self, _: str, key: Any) -> None:
        if isinstance(key, int):
            self.memo[key] = self.top()
        if len(self.memo) > self.budget.limits.entries * 100:
            raise LimitReachedError("a pickle that remembers too many objects")

    _do_binput = _do_long_binput = _do_put

    def _do_memoize(self, name: str, _: Any) -> None:
        self._do_put(name, len(self.memo))

    def _do_get(self, _: str, key: Any) -> None:
        if key not in self.memo:
            self.fail(f"remembers nothing under {key} at byte {self.at:,}")
        self.stack.append(self.memo.get(key, _UNKNOWN))

    _do_binget = _do_long_binget = _do_get

    # -- imports and calls

    def _import(self, module: Any, name: Any) -> Import:
        known = isinstance(module, str) and isinstance(name, str)
        found = Import(module, name, self.at) if known else Import(None, None, self.at)
        self.note(self.facts.imports, found)
        return found

    def _do_global(self, _: str, argument: Any) -> None:
        self.stack.append(self._import(*argument))

    def _do_stack_global(self, _: str, __: Any) -> None:
        name, module = self.pop(), self.pop()
        self.stack.append(self._import(module, name))

    def _do_ext1(self, _: str, code: Any) -> None:
        self.note(self.facts.extensions, code)
        self.stack.append(Import(None, None, self.at))

    _do_ext2 = _do_ext4 = _do_ext1

    def _call(self, callee: Any, arguments: Any, how: str) -> None:
        self.note(self.facts.calls, Call(callee, arguments, how, self.at))
        self.stack.append(Made(callee, arguments))

    def _do_reduce(self, name: str, _: Any) -> None:
        arguments, callee = self.pop(), self.pop()
        self._call(callee, arguments, name)

    _do_newobj = _do_reduce

    def _do_newobj_ex(self, name: str, _: Any) -> None:
        self.pop()
        self._do_reduce(name, None)

    def _do_inst(self, name: str, argument: Any) -> None:
        arguments = tuple(self.to_mark())
        self._call(self._import(*argument), arguments, name)

    def _do_obj(self, name: str, _: Any) -> None:
        taken = self.to_mark()
        if not taken:
            self.fail(f"makes an object of nothing at byte {self.at:,}")
        self._call(taken[0] if taken else _UNKNOWN, tuple(taken[1:]), name)

    def _do_build(self, name: str, _: Any) -> None:
        state, target = self.pop(), self.top()
        self._changes(target, name)
        if isinstance(target, Made):
            target.state = state
            if self.after_build is not None:
                self.after_build(self.cursor, target)

    def _do_persid(self, _: str, argument: Any) -> None:
        self.note(self.facts.persistent, argument)
        self.stack.append(_UNKNOWN)

    def _do_binpersid(self, _: str, __: Any) -> None:
        self.note(self.facts.persistent, self.pop())
        self.stack.append(_UNKNOWN)


def called(facts: Facts) -> Iterator[tuple[Import, Call]]:
    """Calls of imported names."""
    for call in facts.calls:
        if isinstance(call.callee, Import):
            yield call.callee, call
