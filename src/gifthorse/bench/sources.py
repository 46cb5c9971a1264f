"""Digests of the source of a method, so that a mended method is not taken from an old ledger.

What counts is the plugin's own module and whatever that imports, directly or not, from the same
home: the method packages of gifthorse, or the plugin's own package if it is a third party's. What
all methods share (training, networks, metrics) is not in it: a change there needs a new ledger.
"""

import ast
import hashlib
import importlib.util
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from gifthorse.core.registry import plugin_class

_HOMES = tuple(f"gifthorse.{part}" for part in ("attacks", "triggers", "detectors", "repairs"))
_DIGITS = 16


@cache
def source_digest(kind: str, name: str) -> str:
    """Sixteen hexadecimal digits over the source of a method.

    Args:
        kind: ``attacks``, ``detectors`` or ``repairs``.
        name: Of the plugin.

    Raises:
        SpecError: No such plugin.
        PluginError: It cannot be imported.
    """
    return digest_of_modules(method_modules(plugin_class(kind, name).__module__))


def method_modules(start: str) -> dict[str, Path]:
    """The module ``start`` and what it imports from its home, each with its file, by name."""
    homes = _HOMES if start.startswith("gifthorse.") else (start.partition(".")[0],)
    found: dict[str, Path] = {}
    todo = [start]
    while todo:
        name = todo.pop()
        file = _file(name)
        if name in found or file is None:
            continue
        found[name] = file
        todo += [other for other in _imports(name, file) if _inside(other, homes)]
    return found


def digest_of_modules(modules: dict[str, Path]) -> str:
    """Over names and contents; where a file lies and how its lines end is no matter."""
    total = hashlib.sha256()
    for name in sorted(modules):
        content = modules[name].read_bytes().replace(b"\r\n", b"\n")
        total.update(f"{name} {len(content)}\n".encode() + content)
    return total.hexdigest()[:_DIGITS]


def _inside(name: str, homes: Iterable[str]) -> bool:
    return any(name == home or name.startswith(f"{home}.") for home in homes)


def _file(name: str) -> Path | None:
    """The file of a module, or None for what is no module or was never a file."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # the parent is no package: a class or a function
        return None
    if spec is None or not spec.has_location or spec.origin is None:
        return None
    path = Path(spec.origin)
    return path if path.is_file() else None


def _imports(name: str, file: Path) -> Iterator[str]:
    """What a module imports, anywhere in it; of ``from a import b`` both ``a`` and ``a.b``."""
    if file.suffix != ".py":
        return
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *filter(None, [base])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
