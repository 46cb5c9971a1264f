"""Examines text: configurations that ask for code, Python sources, hostile chat templates."""

import ast
import json
import re
import warnings
from collections.abc import Iterator
from typing import Any

from gifthorse.provenance.files.issues import Report, Standing, shown
from gifthorse.provenance.files.limits import Budget
from gifthorse.provenance.files.source import Source
from gifthorse.provenance.files.standing import judge

_MOST_TEXT = 32 << 20

_REACHES_OUT = re.compile(
    r"^(os|subprocess|socket|shutil|ctypes|pickle|marshal|dill|cloudpickle|joblib|runpy|pty|"
    r"importlib|requests|urllib|http|httpx|aiohttp|ftplib|smtplib|telnetlib|webbrowser|code|"
    r"builtins|sys|torch\.hub|torch\.load|base64)(\.|$)"
)
_RUNS = frozenset({"eval", "exec", "compile", "__import__", "breakpoint"})
_HOSTILE_TEMPLATE = re.compile(
    r"__(class|mro|base|bases|subclasses|globals|builtins|init|import|dict|call|getattribute|"
    r"reduce|code|self|module|getitem)\w*|\.\s*_\w|\[\s*['\"]_|\|\s*attr\b|\b(cycler|joiner|"
    r"lipsum|popen|subprocess|get_flashed_messages)\b|\bos\s*\.|\\x5f|\\u005f|\bmro\s*\(",
    re.IGNORECASE,
)
_TEMPLATE_KEYS = ("chat_template", "template")


def read_text(source: Source, report: Report) -> str | None:
    """The whole text; None, and an issue, if it is too long or none."""
    if source.size > _MOST_TEXT:
        text = f"a text of {source.size:,} bytes, of which none was examined"
        report.add("text-too-long", Standing.UNKNOWN, text)
        return None
    try:
        return source.read_at(0, source.size).decode("utf-8-sig")
    except UnicodeDecodeError:
        report.add("text-encoding", Standing.UNKNOWN, "not text in UTF-8; it was not examined")
        return None


def examine_json(source: Source, report: Report, budget: Budget) -> None:
    """Report keys that make loaders run code or open other files."""
    text = read_text(source, report)
    if text is None:
        return
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        report.add("json-broken", Standing.UNKNOWN, "called JSON, and is none")
        return
    for path, key, value, node in _nodes(data):
        budget.tick()
        _examine_key(path, key, value, report)
        if key == "class_name" and isinstance(value, str):
            _examine_keras(value, node, report)
        elif key == "__class__" and isinstance(value, str):
            _examine_skops(value, node, report)


def _nodes(data: Any) -> Iterator[tuple[str, str, Any, dict[str, Any]]]:
    """Every key of every object, however deep, with the path to the object and the object."""
    waiting = [("", data)]
    while waiting:
        path, node = waiting.pop()
        if isinstance(node, dict):
            for key, value in node.items():
                yield path, str(key), value, node
                if isinstance(value, dict | list):
                    waiting.append((f"{path}.{key}".lstrip(".")[:200], value))
        elif isinstance(node, list):
            waiting += [(path, value) for value in node if isinstance(value, dict | list)]


def _examine_key(path: str, key: str, value: Any, report: Report) -> None:
    where = f"{path}.{key}".lstrip(".")
    if key == "auto_map" and value:
        text = f"names code of its own to load ({shown(value)}); it runs with trust_remote_code"
        report.add("custom-code", Standing.UNKNOWN, text)
    elif key == "trust_remote_code" and value:
        text = f"{where} asks for trust_remote_code"
        report.add("custom-code", Standing.DANGEROUS, text)
    elif key == "_target_" and isinstance(value, str):
        _examine_target(value, report)
    elif key in _TEMPLATE_KEYS:
        for found in value if isinstance(value, list) else [value]:
            inner = found.get("template") if isinstance(found, dict) else found
            if isinstance(inner, str):
                examine_template(inner, report)
    elif key == "weight_map" and isinstance(value, dict):
        _examine_shards(value, report)


def _examine_target(value: str, report: Report) -> None:
    module, _, name = value.rpartition(".")
    standing, why = judge(module, name)
    if standing is not Standing.NOTE:
        text = f"_target_ makes Hydra call {shown(value)}: {why}"
        report.add("config-target", standing, text)


def _examine_keras(class_name: str, node: dict[str, Any], report: Report) -> None:
    """A layer as Keras stores it: it imports ``class_name`` from ``module`` and calls it."""
    if class_name in ("Lambda", "TorchModuleWrapper"):
        text = f"a Keras {class_name} layer, which holds Python code"
        report.add("keras-code", Standing.DANGEROUS, text)
    module = node.get("module")
    if not isinstance(module, str) or module.partition(".")[0] in ("keras", "tf_keras"):
        return
    standing, why = judge(module, class_name)
    if standing is not Standing.NOTE:
        text = f"makes Keras import {shown(f'{module}.{class_name}')}: {why}"
        report.add("keras-import", standing, text)


def _examine_skops(class_name: str, node: dict[str, Any], report: Report) -> None:
    """An object as skops stores it: it imports ``__class__`` from ``__module__``."""
    module = str(node.get("__module__", ""))
    standing, why = judge(module, class_name)
    if standing is not Standing.NOTE:
        text = f"makes skops import {shown(f'{module}.{class_name}')}: {why}"
        report.add("skops-import", standing, text)


def examine_yaml(source: Source, report: Report, budget: Budget) -> None:
    """Report what makes YAML loaders and Hydra call Python. The text is searched, not parsed."""
    text = read_text(source, report)
    if text is None:
        return
    budget.tick()
    found = re.search(r"!!?python/[\w/:.]*|tag:yaml\.org,2002:python/[\w/:.]*", text)
    if found:
        report.add("yaml-python", Standing.DANGEROUS, f"holds the tag {shown(found[0])}")
    for target in set(re.findall(r"""_target_["']?\s*:\s*["']?([\w.]+)""", text)):
        _examine_target(target, report)
    if re.search(r"(?m)trust_remote_code[\"']?\s*:\s*(true|yes|on)\b", text, re.IGNORECASE):
        report.add("custom-code", Standing.DANGEROUS, "asks for trust_remote_code")
    examine_template(text, report)


def examine_template_file(source: Source, report: Report, budget: Budget) -> None:
    """Report a chat template in a file of its own that reaches for Python objects."""
    text = read_text(source, report)
    if text is not None:
        budget.tick()
        examine_template(text, report)


def _examine_shards(shards: dict[str, Any], report: Report) -> None:
    for name in {str(value) for value in shards.values()}:
        if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/"):
            text = f"the index sends the loader to {shown(name)}"
            report.add("path-traversal", Standing.DANGEROUS, text)


def examine_template(text: str, report: Report) -> None:
    """Report a chat template that reaches for Python objects.

    Loaders render these with Jinja; without its sandbox such a template runs code, and with it, it
    has no business there.
    """
    inside = " ".join(re.findall(r"\{[{%](.*?)[}%]\}", text, re.DOTALL))
    found = _HOSTILE_TEMPLATE.search(inside)
    if found:
        text = f"the chat template reaches for Python's insides: {shown(found[0])}"
        report.add("template-hostile", Standing.DANGEROUS, text)


def examine_python(source: Source, report: Report, budget: Budget) -> None:
    """Report what a Python file imports and calls that weights have no use for.

    Source code is never called harmless: its best verdict is INCONCLUSIVE.
    """
    text = read_text(source, report)
    if text is None:
        return
    budget.tick()
    try:
        with warnings.catch_warnings():  # what the code does badly is no concern here
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        report.add("python-code", Standing.UNKNOWN, f"Python code that cannot be parsed: {error}")
        return
    reached: dict[str, int] = {}
    for node in ast.walk(tree):
        for name in _reached(node):
            reached.setdefault(name, getattr(node, "lineno", 0))
    text_ = "Python code that comes with the model; read it before anything imports it"
    report.add("python-code", Standing.UNKNOWN, text_)
    for name, line in sorted(reached.items())[:20]:
        report.imported(name)
        standing = Standing.DANGEROUS if name in _RUNS else Standing.UNKNOWN
        report.add("python-reach", standing, f"line {line} uses {shown(name)}")


def _reached(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if _REACHES_OUT.match(alias.name))
    elif isinstance(node, ast.ImportFrom) and _REACHES_OUT.match(node.module or ""):
        yield node.module or ""
    elif isinstance(node, ast.Call):
        name = _dotted(node.func)
        if name in _RUNS or name.startswith(("os.system", "os.popen", "subprocess.")):
            yield name


def _dotted(node: ast.AST) -> str:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""
