"""Lists what the tests marked ``efficacy`` run on, from their parameters: collected, not run.

    python tests/contracts/efficacy_listing.py OUT.json

Writes ``{kind: {method: ["planted", "twin"]}}``. A test with the marker says of which methods it
asserts something by what it is called with: instances of plugins, or specs as on a command line.
Tests without parameters name the class: ``efficacy(of=MmBd)``.
"""

import json
import sys
from pathlib import Path

import pytest

from gifthorse.core.registry import names, parse_spec, plugin_class

ROOT = Path(__file__).parents[2]
KINDS = ("attacks", "detectors", "repairs")
HALVES = {"planted", "twin"}
PARTS = ("attacks", "auditing", "bench", "detectors", "repairs")


def method_of(value: object) -> tuple[str, str] | None:
    """(kind, name) of a plugin's class, an instance or a spec; None for any other parameter."""
    for kind in KINDS:
        if isinstance(value, str):
            name = parse_spec(value).name
            if name in names(kind):
                return kind, name
            continue
        cls = value if isinstance(value, type) else type(value)
        for name in names(kind):
            if plugin_class(kind, name) is cls:
                return kind, name
    return None


class Listing:
    """What was collected."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, set[str]]] = {kind: {} for kind in KINDS}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Read markers and parameters of all tests that were kept."""
        for item in session.items:
            for marker in item.iter_markers("efficacy"):
                self._read(item, marker)

    def _read(self, item: pytest.Item, marker: pytest.Mark) -> None:
        halves = set(marker.args)
        if not halves <= HALVES:
            raise pytest.UsageError(f"{item.nodeid}: efficacy of {halves}; known: {HALVES}")
        call = getattr(item, "callspec", None)
        values = list(marker.kwargs.values())
        for value in call.params.values() if call is not None else ():
            values += value if isinstance(value, tuple) else [value]
        methods = [method for value in values if (method := method_of(value)) is not None]
        if not methods:
            raise pytest.UsageError(f"{item.nodeid}: efficacy of which method?")
        for kind, name in methods:
            self.found[kind].setdefault(name, set()).update(halves or HALVES)


def main() -> int:
    """Collect, and write the file."""
    listing = Listing()
    arguments = [
        "--collect-only", "-q", "-m", "efficacy", "-p", "no:cacheprovider", "--rootdir", str(ROOT),
        *(str(ROOT / "tests" / part) for part in PARTS),
    ]  # fmt: skip
    code = pytest.main(arguments, plugins=[listing])
    found = {
        kind: {name: sorted(halves) for name, halves in sorted(methods.items())}
        for kind, methods in listing.found.items()
    }
    Path(sys.argv[1]).write_text(json.dumps(found, indent=1), encoding="utf-8")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
