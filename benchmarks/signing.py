"""Signing, verifying and loading beside bare hashing and beside model_signing: one run, one table.

    python benchmarks/signing.py [--mebibytes 1024] [--load 500] [--rounds 3]

A model of equal shards is written once and read into the page cache. Every round does each thing
once, one after the other, so that a machine that others use slows all of them alike; medians and
ratios of medians are printed. Yardsticks hash the same bytes: file by file on as many threads as
ours, and for blake3 with its own threads. Temporary files take about 1.6 GB.
"""

import argparse
import hashlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

import gifthorse
from gifthorse.provenance.digests import new_hasher
from gifthorse.provenance.files.scan import scan_files
from gifthorse.provenance.keys import PrivateKey, generate_key, write_key
from gifthorse.provenance.policy import policy_for_keys
from gifthorse.provenance.sign import sign, sign_bundle
from gifthorse.provenance.verify import verify

CHUNK = 4 << 20
Work = Callable[[], Any]


def make_model(place: Path, mebibytes: int, shards: int) -> Path:
    place.mkdir()
    rng = np.random.default_rng(0)
    (place / "config.json").write_text("{}")
    for i in range(shards):
        with (place / f"model-{i}.safetensors").open("wb") as file:
            for _ in range(mebibytes // shards // 4):
                file.write(rng.bytes(4 << 20))
    return place


def hash_file(path: Path, algorithm: str) -> str:
    hasher, buffer = new_hasher(algorithm), bytearray(CHUNK)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            hasher.update(memoryview(buffer)[:count])
    return hasher.hexdigest()


def hash_all(place: Path, algorithm: str, threads: int) -> None:
    files = [p for p in sorted(place.iterdir()) if not p.name.endswith(".sig")]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda path: hash_file(path, algorithm), files))


def sha256_of(path: Path) -> str:
    """hashlib's own way to hash a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def medians(rounds: int, works: dict[str, Work]) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in seconds.items()}


def table(title: str, found: dict[str, float], yardsticks: tuple[str, ...]) -> None:
    print(f"\n### {title}\n\n| | s | {' | '.join(f'÷ {name}' for name in yardsticks)} |")
    print("|---" * (2 + len(yardsticks)) + "|")
    for name, seconds in found.items():
        ratios = " | ".join(f"{seconds / found[one]:.2f}" for one in yardsticks)
        print(f"| {name} | {seconds:.3f} | {ratios} |", flush=True)


def theirs(model: Path, root: Path, key: PrivateKey, ours: Path) -> dict[str, Work]:
    """model_signing 1.x through its own interface, as its command does."""
    from model_signing import hashing, signing, verifying

    secret, public = write_key(key, root / "key")
    signature = root / "theirs.sig"
    hashed = hashing.Config().set_ignored_paths(paths=[ours, signature], ignore_git_paths=False)

    def make() -> None:
        config = signing.Config().use_elliptic_key_signer(private_key=secret)
        config.set_hashing_config(hashed).sign(model, signature)

    def check() -> None:
        config = verifying.Config().use_elliptic_key_verifier(public_key=public)
        config.set_hashing_config(hashed).verify(model, signature)

    return {"model_signing sign": make, "model_signing verify": check}


def signatures(root: Path, mebibytes: int, rounds: int, shards: int) -> None:
    model = make_model(root / f"model{shards}", mebibytes, shards)
    key = generate_key("ecdsa-p256")
    policy = policy_for_keys([key.public])
    fast, ours = root / "fast.sig", model / "gifthorse.sig"
    bundle = root / "bundle.sig"
    sign(model, key=key, algorithm="blake3", signature=fast, replace=True)
    sign_bundle(model, key=key, signature=bundle, replace=True)
    threads = min(8, os.cpu_count() or 1)
    private = root / f"keys{shards}"
    private.mkdir()
    works: dict[str, Work] = {
        "bare sha256": lambda: hash_all(model, "sha256", threads),
        "sign": lambda: sign(model, key=key, signature=root / "new.sig", replace=True),
        "verify": lambda: verify(model, policy=policy, signature=root / "new.sig"),
        "verify an OpenSSF bundle": lambda: verify(model, policy=policy, signature=bundle),
        "bare blake3": lambda: hash_all(model, "blake3", 1),
        "verify, blake3": lambda: verify(model, policy=policy, signature=fast),
        **theirs(model, private, key, ours),
    }
    found = medians(rounds, works)
    title = f"A model of {mebibytes} MiB in {shards} file(s), {threads} thread(s), {rounds} rounds"
    table(title, found, ("bare sha256", "model_signing verify"))


def loads(root: Path, megabytes: int, rounds: int) -> None:
    path = root / "large.safetensors"
    count = megabytes * 250_000 // 20
    save_file({f"layer{i}.weight": torch.rand(count) for i in range(20)}, path)
    key = generate_key()
    sign(path, key=key)
    fast = root / "large-blake3.sig"
    sign(path, key=key, algorithm="blake3", signature=fast)
    assert set(gifthorse.load(path, key=key.public)) == set(load_file(path))
    found = medians(
        rounds,
        {
            "sha256 of the file": lambda: sha256_of(path),
            "gifthorse.load": lambda: gifthorse.load(path, key=key.public),
            "blake3 of the file": lambda: hash_file(path, "blake3"),
            "gifthorse.load, blake3": lambda: gifthorse.load(path, key=key.public, signature=fast),
            "safetensors load_file, unverified": lambda: load_file(path),
        },
    )
    title = f"A safetensors file of {path.stat().st_size / 1e6:.0f} MB, {rounds} rounds"
    table(title, found, ("sha256 of the file", "blake3 of the file"))


def scans(root: Path, megabytes: int, rounds: int) -> None:
    path = root / "large.pt"
    count = megabytes * 250_000 // 20
    torch.save({f"layer{i}.weight": torch.zeros(count) for i in range(20)}, path)
    found = medians(
        rounds, {"sha256 of the file": lambda: sha256_of(path), "scan": lambda: scan_files(path)}
    )
    table(f"Scan of a .pt of {path.stat().st_size / 1e6:.0f} MB", found, ("sha256 of the file",))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--mebibytes", type=int, default=1024)
    parser.add_argument("--load", type=int, default=500, help="megabytes")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as root:
        loads(Path(root), options.load, options.rounds)
        scans(Path(root), options.load, options.rounds)
        for shards in (1, 4):
            signatures(Path(root), options.mebibytes, options.rounds, shards)


if __name__ == "__main__":
    main()
