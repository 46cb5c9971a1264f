"""A manifest of a million small samples, and a trace of a hundred: seconds and peak memory.

    python benchmarks/manifest.py [--samples 1000000] [--folder 20000]

Each measurement is a process of its own, and so is its peak of memory (Linux only). The plain loop
that hashes the same lines with hashlib is the yardstick. Temporary files take about 1.5 GB.
"""

import argparse
import hashlib
import io
import json
import multiprocessing
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

PEOPLE = 20


def make_lines(place: Path, count: int) -> Path:
    path = place / "data.jsonl"
    with path.open("w") as file:
        for i in range(count):
            file.write(f'{{"text":"sample {i} of many","label":{i % 10},"who":"p{i % PEOPLE}"}}\n')
    return path


def make_parquet(place: Path, count: int) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = place / "data.parquet"
    numbers = np.arange(count)
    pq.write_table(
        pa.table(
            {
                "text": [f"sample {i} of many" for i in range(count)],
                "label": numbers % 10,
                "who": [f"p{i % PEOPLE}" for i in range(count)],
            }
        ),
        path,
        row_group_size=65_536,
    )
    return path


def make_tar(place: Path, count: int) -> Path:
    path = place / "data.tar"
    with tarfile.open(path, "w") as archive:
        for i in range(count):
            content = b"sample %d of many" % i
            info = tarfile.TarInfo(f"{i:07}.txt")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
            archive.members.clear()  # type: ignore[attr-defined]
    return path


def make_folder(place: Path, count: int) -> Path:
    root = place / "folder"
    for i in range(count):
        path = root / str(i % 10) / f"{i:07}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"sample %d of many" % i)
    return root


def plain_hashing(source: Path, _: Path) -> int:
    """The yardstick: read, parse and hash every line, nothing more."""
    count = 0
    with source.open("rb") as file:
        for line in file:
            json.loads(line)
            hashlib.sha256(line).digest()
            count += 1
    return count


def list_samples(source: Path, place: Path) -> int:
    from gifthorse.provenance.manifest import write_manifest
    from gifthorse.provenance.reading.attribution import Attribution
    from gifthorse.provenance.reading.sources import find_source

    named = Attribution(field="who") if source.suffix in (".jsonl", ".parquet") else None
    found = find_source(str(source), attribution=named or Attribution(name="p0"))
    return write_manifest(found.samples(), place, name="many", content="bytes").head.size


def verify(manifest: Path, _: Path) -> int:
    from gifthorse.provenance.manifest import open_manifest

    found = open_manifest(manifest)
    found.verify()
    return found.head.size


def index(manifest: Path, place: Path) -> int:
    from gifthorse.provenance.manifest import open_manifest
    from gifthorse.provenance.store import SqliteStore

    store = SqliteStore(place)
    store.add_manifest(open_manifest(manifest))
    return len(store.data_sets())


def record(manifest: Path, place: Path) -> int:
    from gifthorse.provenance.manifest import open_manifest
    from gifthorse.provenance.recording import Recorder

    recorder = Recorder(open_manifest(manifest), parameters={})
    order = np.random.default_rng(0).permutation(len(recorder))[: len(recorder) // 2]
    for start in range(0, len(order), 128):
        recorder.consume(order[start : start + 128])
    place.mkdir()
    (place / "model.safetensors").write_bytes(b"weights")
    recorder.attest(place)
    return recorder.consumed().count


def trace(store: Path, run: Path) -> int:
    from gifthorse.provenance.documents import read_document
    from gifthorse.provenance.lineage import forward
    from gifthorse.provenance.store import SqliteStore

    known = SqliteStore(store)
    known.add_run(read_document(run / "provenance.json"))
    data = known.data_sets()[0].head
    places = list(known.at(data.root, spread(data.size)))
    return len(forward(known, places, question="benchmark").samples)


def prove(store: Path, proof: Path) -> int:
    from gifthorse.provenance.lineage import forward, proofs
    from gifthorse.provenance.store import SqliteStore

    known = SqliteStore(store)
    data = known.data_sets()[0].head
    lineage = forward(known, list(known.at(data.root, spread(data.size))), question="benchmark")
    made = proofs(known, lineage)
    proof.write_text(made.model_dump_json())
    return len(made.data_sets[0].samples)


def check(proof: Path, _: Path) -> int:
    from gifthorse.provenance.proofs import read_proof

    found = read_proof(proof)
    if found.faults():
        raise SystemExit("the proofs do not hold")
    return len(found.data_sets[0].samples)


def spread(size: int) -> list[int]:
    """A hundred positions all over the data set, of all contributors."""
    return [int(i) for i in np.linspace(0, size - 1, 100)]


def measure(name: str, work: Callable[[Path, Path], int], source: Path, target: Path) -> None:
    """Run in a process of its own; print seconds and peak memory, and how much of it is new."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_child, args=(work, source, target, theirs))
    process.start()
    count, seconds, processor, before, peak = ours.recv()
    process.join()
    print(
        f"{name:<34} {count:>9} {seconds:7.2f} s  {processor:7.2f} s CPU  peak {peak:6.0f} MiB "
        f"({peak - before:+.0f})",
        flush=True,
    )


def _child(work: Callable[[Path, Path], int], source: Path, target: Path, pipe: Any) -> None:
    import pyarrow.parquet  # noqa: F401

    import gifthorse.provenance.lineage  # noqa: F401 - imports are not what is measured

    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here on
    before = _status("VmRSS")
    start, processor = time.perf_counter(), time.process_time()
    count = work(source, target)
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    pipe.send((count, seconds, processor, before, _status("VmHWM")))


def _status(field: str) -> float:
    """A figure of this process in MiB.

    ``ru_maxrss`` will not do: a child begins with that of its parent, even in a program of its own.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"/proc/self/status says nothing of {field}; this needs Linux")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--folder", type=int, default=20_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        lines = make_lines(root, given.samples)
        measure("parse and hash lines (yardstick)", plain_hashing, lines, root)
        measure("manifest of JSON Lines", list_samples, lines, root / "lines.m")
        measure("manifest of Parquet", list_samples, make_parquet(root, given.samples), root / "p")
        measure("manifest of tar", list_samples, make_tar(root, given.samples), root / "t")
        measure("manifest of a folder", list_samples, make_folder(root, given.folder), root / "f")
        measure("verify the manifest", verify, root / "lines.m", root)
        measure("index it in SQLite", index, root / "lines.m", root / "store.db")
        measure("record a run over half of it", record, root / "lines.m", root / "model")
        measure("trace 100 samples", trace, root / "store.db", root / "model")
        measure("trace and prove 100 samples", prove, root / "store.db", root / "proof.json")
        measure("check 100 proofs", check, root / "proof.json", root)


if __name__ == "__main__":
    main()
