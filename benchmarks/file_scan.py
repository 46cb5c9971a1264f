"""The file scan beside four others: what each sees, false alarms, and time.

Nothing is ever loaded. Corpora are fetched by hand and named on the command line:

    git clone --depth 1 https://github.com/mmaitre314/picklescan
    git clone --depth 1 https://github.com/trailofbits/fickling
    git clone --depth 1 https://github.com/promptfoo/modelaudit
    for tool in fickling modelscan modelaudit; do
        python -m venv peers/$tool; peers/$tool/bin/pip install $tool; done
    peers/fickling/bin/pip install typing_extensions   # which it imports without declaring it
    peers/modelscan/bin/pip install 'numpy<2'          # it fails beside a newer one
    python benchmarks/file_scan.py --picklescan picklescan --fickling fickling \
        --modelaudit modelaudit --peers peers

Without arguments it judges the files that it makes itself, by gifthorse and picklescan. Peers are
measured through their commands, so their times hold the start of Python; the others are measured
within this process. What a peer's exit code does not call clean or unsafe is an error.
"""

import argparse
import ast
import bz2
import collections
import contextlib
import gzip
import importlib.util
import io
import json
import logging
import lzma
import marshal
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from gifthorse.core.types import Verdict
from gifthorse.provenance.files.scan import content_digest, scan_files

Judged = tuple[str, float]
_DATA = frozenset(
    {".npy", ".npz", ".pkl", ".onnx", ".gz", ".gzip", ".bz2", ".xz", ".lzma", ".json", ".png"}
)
FOLDERS = ("hostile", "benign", "unsafe", "safe", "ops", "speed")
SIGNS = {Verdict.FLAGGED: "flagged", Verdict.INCONCLUSIVE: "unsure", Verdict.CLEAR: "clear"}


class Calls:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.arguments


def ours(path: Path) -> str:
    return SIGNS[scan_files(path).verdict]


def ours_alone(path: Path) -> str:
    with mock.patch("gifthorse.provenance.files.pickles.ask_picklescan"):
        return ours(path)


def picklescan(path: Path) -> str:
    from picklescan.scanner import scan_file_path

    logging.getLogger("picklescan").disabled = True
    try:
        found = scan_file_path(str(path))
    except Exception:  # noqa: BLE001
        return "error"
    if found.issues_count:
        return "flagged"
    if found.scan_err:
        return "error"
    return "unsure" if found.suspicious_count else "clear"


def command(program: Path, *arguments: str) -> Callable[[Path], str]:
    """A scanner that is a program: 0 is clean, 1 unsafe, anything else an answer of no use."""
    program = program.absolute()
    given = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    quiet = {"PROMPTFOO_DISABLE_TELEMETRY": "1", "NO_ANALYTICS": "1"}

    def judge(path: Path) -> str:
        with tempfile.TemporaryDirectory() as place:
            done = subprocess.run(
                [str(program), *arguments, str(path)],
                check=False,
                capture_output=True,
                cwd=place,
                timeout=300,
                env=given | quiet,
            )
        return {0: "clear", 1: "flagged"}.get(done.returncode, "error")

    return judge


def peers(root: Path) -> dict[str, Callable[[Path], str]]:
    """The scanners in environments of their own below this folder."""
    known = {
        "fickling": ("--check-safety",),
        "modelscan": ("scan", "-r", "json", "-p"),
        "modelaudit": ("scan", "--no-cache", "--format", "json"),
    }
    sys.path += [str(place) for place in root.glob("fickling/lib/python*/site-packages")]
    places = {name: root / name / "bin" / name for name in known}
    return {n: command(place, *known[n]) for n, place in places.items() if place.exists()}


TOOLS: dict[str, Callable[[Path], str]] = {
    "gifthorse": ours,
    "gifthorse without picklescan": ours_alone,
    "picklescan": picklescan,
}


MEASURED_HERE = frozenset(TOOLS)


def judged(tool: Callable[[Path], str], path: Path) -> Judged:
    start = time.perf_counter()
    found = tool(path)
    return found, time.perf_counter() - start


def table(title: str, paths: list[Path], *, each: bool = False) -> None:
    """A row a tool: how many files it flags, is unsure of, calls clear, or fails on."""
    print(f"\n### {title}: {len(paths)} files\n")
    seen = {name: [judged(tool, path) for path in paths] for name, tool in TOOLS.items()}
    if each:
        print("| file | " + " | ".join(TOOLS) + " |\n|---" * 1 + "|---" * len(TOOLS) + "|")
        for i, path in enumerate(paths):
            print(f"| {path.name} | " + " | ".join(seen[name][i][0] for name in TOOLS) + " |")
        print()
    print("| tool | flagged | unsure | clear | error | seconds |\n|---|---|---|---|---|---|")
    for name, results in seen.items():
        counts = collections.Counter(verdict for verdict, _ in results)
        columns = [counts[kind] for kind in ("flagged", "unsure", "clear", "error")]
        total = sum(seconds for _, seconds in results)
        print(f"| {name} | " + " | ".join(map(str, columns)) + f" | {total:.2f} |")
    for verdict in ("flagged", "unsure", "clear"):
        left = [p.name for p, (found, _) in zip(paths, seen["gifthorse"], strict=True)
                if found == verdict]  # fmt: skip
        if left and len(left) < len(paths) / 2:
            print(f"\ngifthorse {verdict}: {', '.join(left)}")


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def make_hostile(place: Path) -> list[Path]:
    """Harmless calls in every wrapper; none of these files is ever loaded."""
    import joblib

    call = pickle.dumps(Calls(os.getcwd))
    stacked = pickle.dumps({"a": 1}) + call
    files = {
        "getcwd.pkl": call,
        "print.pkl": pickle.dumps(Calls(print, "x")),
        "import_module.pkl": pickle.dumps(Calls(__import__("importlib").import_module, "math")),
        "stacked.pkl": stacked,
        "torch.pt": zipped({"m/data.pkl": call, "m/version": b"3\n"}),
        "call.pkl.gz": gzip.compress(call),
        "call.pkl.bz2": bz2.compress(call),
        "call.pkl.xz": lzma.compress(call),
        "model.tar.gz": tarred("model.pkl", call),
        "nested.zip": zipped({"inner.zip": zipped({"a.pkl": call})}),
        "model.safetensors": call,
        "truncated.pkl": call[:-1],
    }
    for name, content in files.items():
        (place / name).write_bytes(content)
    for compress in (0, 3, ("gzip", 3), ("bz2", 3), ("xz", 3)):
        kind = compress if isinstance(compress, int) else compress[0]
        content = {"weights": np.arange(5000.0), "then": Calls(os.getcwd)}
        joblib.dump(content, place / f"call-{kind}.joblib", compress)
    return sorted(place.iterdir())


def make_benign(place: Path) -> list[Path]:
    import joblib
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    torch.set_num_threads(1)
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten())
    optimiser = torch.optim.AdamW(net.parameters())
    plan = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 10)
    net(torch.randn(2, 1, 5, 5)).sum().backward()
    optimiser.step()
    whole = {"model": net.state_dict(), "optimiser": optimiser.state_dict(), "epoch": 3}
    whole |= {"plan": plan.state_dict(), "rng": torch.get_rng_state()}
    for name, content in (("state", net.state_dict()), ("checkpoint", whole)):
        torch.save(content, place / f"{name}.pt")
        torch.save(content, place / f"{name}-legacy.pt", _use_new_zipfile_serialization=False)
    torch.save({k: v.half() for k, v in net.state_dict().items()}, place / "pytorch_model.bin")
    random = {"numpy": np.random.RandomState(0).get_state(), "cpu": torch.get_rng_state()}
    torch.save(random, place / "rng_state.pth")
    save_file(net.state_dict(), place / "model.safetensors")
    values = np.arange(6.0).reshape(2, 3)
    np.save(place / "array.npy", values)
    np.savez_compressed(place / "arrays.npz", a=values, b=values)
    np.save(place / "objects.npy", np.array([{"a": 1}, None], dtype=object), allow_pickle=True)
    for protocol in range(6):
        content_ = {"a": values, "b": collections.OrderedDict(c=1), "d": {1}, "e": b"\xff"}
        (place / f"data{protocol}.pkl").write_bytes(pickle.dumps(content_, protocol))
    for compress in (0, 3, ("gzip", 3), ("bz2", 3), ("xz", 3)):
        kind = compress if isinstance(compress, int) else compress[0]
        joblib.dump({"w": values, "s": "x"}, place / f"data-{kind}.joblib", compress)
    return sorted(place.iterdir())


def make_formats(place: Path, *, bad: bool) -> list[Path]:
    """Formats that are no pickles: what makes each of them dangerous, or the same without it."""
    call, plain = pickle.dumps(Calls(os.getcwd)), pickle.dumps({"a": 1})
    text = "{{ ''.__class__.__mro__ }}" if bad else "{{ messages[0]['content'] }}"
    layer = json.dumps({"module": "keras.layers", "class_name": "Lambda" if bad else "Dense"})
    inside = b'{"module":"keras","class_name":"Sequential","config":{"layers":[%b]}}'
    buffer = io.BytesIO()
    np.savez(buffer, a=np.array([Calls(os.getcwd) if bad else 1.0], dtype=object if bad else float))
    one = {"file_name": "x.py"} if bad else {}
    files = {
        "model.keras": zipped({"config.json": inside % layer.encode(), "metadata.json": b"{}"}),
        "weights.onnx": _onnx("../../../etc/passwd" if bad else "weights.data"),
        "tokenizer_config.json": json.dumps({"chat_template": text}).encode(),
        "config.json": json.dumps({"auto_map": {"AutoModel": "x--y.Z"}} if bad else one).encode(),
        "objects.npz": buffer.getvalue(),
        "picture.png": call if bad else b"\x89PNG\r\n\x1a\n" + bytes(40),
        "weights.onnx.zip": zipped({"../../out.txt" if bad else "in.txt": b"text"}),
        "settings.yaml": b"a: !!python/object/apply:os.getcwd []\n" if bad else b"a: 1\n",
        "layers.pt": zipped({"m/data.pkl": call if bad else plain, "m/version": b"3\n"}),
        "letters.zip": _deflated(400 << 20 if bad else 1 << 10),
    }
    for name, content in files.items():
        (place / name).write_bytes(content)
    with tarfile.open(place / "linked.tar", "w") as archive:
        entry = tarfile.TarInfo("weights.bin")
        if bad:
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(entry, None if bad else io.BytesIO())
    _write_gguf(place / "model.gguf", text)
    return sorted(place.iterdir())


def _onnx(location: str) -> bytes:
    """A graph with one tensor whose data lie elsewhere."""

    def field(number: int, *parts: bytes) -> bytes:
        raw = b"".join(parts)
        return bytes([number << 3 | 2, len(raw)]) + raw

    entry = field(13, field(1, b"location"), field(2, location.encode()))
    node = field(1, field(1, b"x"), field(2, b"y"), field(4, b"Relu"))
    return b"\x08\x08" + field(7, node, field(2, b"graph"), field(5, field(8, b"w"), entry))


def _deflated(size: int) -> bytes:
    """One letter again and again: what unpacks to much more than it looks like."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("letters.txt", "w") as member,
    ):
        for _ in range(max(1, size >> 20)):
            member.write(b"a" * min(size, 1 << 20))
    return buffer.getvalue()


def _write_gguf(path: Path, template: str) -> None:
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_chat_template(template)
    writer.add_tensor("a", np.ones((4, 32), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def from_fickling(root: Path, place: Path) -> list[Path]:
    """Pickles that fickling's tests spell out operation by operation, written without running them.

    Only the list of operations is evaluated, and only where it needs no other variable.
    """
    import fickling.fickle as operations

    known = {"op": operations, "marshal": marshal, "struct": struct, "pickle": pickle}
    tests = ast.parse((root / "test" / "test_bypasses.py").read_text())
    skipped = 0
    for function in ast.walk(tests):
        if not isinstance(function, ast.FunctionDef):
            continue
        for i, (call, scope) in enumerate(_pickled(function)):
            try:
                built = eval(compile(ast.Expression(call), "corpus", "eval"), {**known, **scope})
                content = operations.Pickled(built).dumps()
            except Exception:  # noqa: BLE001
                skipped += 1
                continue
            (place / f"{function.name}-{i}.pkl").write_bytes(content)
    print(f"\nfickling: {skipped} lists of operations need variables and were left out")
    return sorted(place.iterdir())


def shipped() -> list[Path]:
    """Data files that installed packages bring along, most of them for their own tests."""
    found: list[Path] = []
    for package in ("joblib", "matplotlib", "networkx", "numpy", "onnx", "scipy", "sklearn"):
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            continue
        inside = Path(spec.origin).parent.rglob("*")
        found += [p for p in inside if p.suffix in _DATA and p.is_file() and p.stat().st_size]
    return sorted(found)


def _pickled(function: ast.FunctionDef) -> Iterator[tuple[ast.expr, dict[str, Any]]]:
    for node in ast.walk(function):
        named = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        if named and node.func.id == "Pickled" and node.args:  # type: ignore[attr-defined]
            yield node.args[0], {}  # type: ignore[attr-defined]


def speed(place: Path, megabytes: int) -> None:
    """A checkpoint of this size: the scan reads its operations, not its tensors."""
    import torch

    path = place / "large.pt"
    count = megabytes * 250_000 // 20
    torch.save({f"layer{i}.weight": torch.zeros(count) for i in range(20)}, path)
    with path.open("rb") as file:  # all in memory first, for everyone alike
        while file.read(1 << 24):
            pass
    print(f"\n### Scan of a .pt of {path.stat().st_size / 1e6:.0f} MB, best of 3\n")
    print("| tool | seconds |\n|---|---|")
    for name, tool in [*TOOLS.items(), ("sha256 of the file", content_digest)]:
        best = min(judged(tool, path)[1] for _ in range(3))
        print(f"| {name} | {best:.4f} |")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    for corpus in ("picklescan", "fickling", "modelaudit"):
        parser.add_argument(f"--{corpus}", type=Path, help="a clone of the repository")
    parser.add_argument("--peers", type=Path, help="a folder of environments with other scanners")
    parser.add_argument("--megabytes", type=int, default=500)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if options.peers:
        TOOLS.update(peers(options.peers))
    with tempfile.TemporaryDirectory() as root, contextlib.redirect_stderr(io.StringIO()):
        folders = {name: Path(root) / name for name in FOLDERS}
        for folder in folders.values():
            folder.mkdir()
        table("Made here, hostile", make_hostile(folders["hostile"]), each=True)
        table("Made here, benign", make_benign(folders["benign"]), each=True)
        table("Made here, other formats", make_formats(folders["unsafe"], bad=True), each=True)
        harmless = make_formats(folders["safe"], bad=False)
        table("Made here, other formats without it", harmless, each=True)
        everyone = dict(TOOLS)
        for peer in everyone.keys() - MEASURED_HERE:  # up to a second a file
            TOOLS.pop(peer)
        table("shipped with installed packages", shipped())
        TOOLS.update(everyone)
        if options.picklescan:
            data = options.picklescan / "tests"
            table("picklescan's 45 bypasses", sorted((data / "data2").glob("GHSA-*")))
            rest = [*(data / "data").iterdir(), *(data / "data2").iterdir()]
            named = [p for p in rest if p.suffix != ".py" and not p.name.startswith("GHSA-")]
            table("the rest of picklescan's test data", sorted(named))
        if options.fickling:
            table("fickling's tests", from_fickling(options.fickling, folders["ops"]))
        if options.modelaudit:
            files = (options.modelaudit / "tests" / "assets").rglob("*")
            files = [p for p in files if p.is_file() and p.suffix not in (".py", ".md")]
            bad = ("malicious", "exploit", "evil", "attack", "traversal", "obfuscated", "dill")
            hostile = [p for p in files if any(b in str(p).lower() for b in bad)]
            table("modelaudit's assets with a hostile name", sorted(hostile))
            table("modelaudit's other assets", sorted(set(files) - set(hostile)))
        speed(folders["speed"], options.megabytes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
