"""Who contributed to which global model, in the provenance that all other training has.

The replies of all rounds are one manifest: a client is a contributor, a reply is a sample. Every
round is a run that consumed the replies that its defence accepted, with the model before it as a
parent. So ``gifthorse trace`` leads from a reply to every global model that it touched, and from a
global model back to the clients.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from gifthorse.core.clients import Layout
from gifthorse.core.errors import DataError
from gifthorse.core.types import ScoreArray
from gifthorse.federated.removal import StoredRound
from gifthorse.provenance.documents import write_document
from gifthorse.provenance.keys import PrivateKey
from gifthorse.provenance.manifest import Manifest, write_manifest
from gifthorse.provenance.runs import Consumed, ConsumedPart, Named, Parameter, Run, now
from gifthorse.provenance.samples import Sample
from gifthorse.provenance.store import SqliteStore

MANIFEST, RUNS, STORE = "replies.manifest", "runs", "lineage.db"


def model_file(model: ScoreArray, layout: Layout) -> bytes:
    """A global model (d,) as the bytes of a safetensors file, in single precision."""
    return save(
        {n: np.ascontiguousarray(v, dtype=np.float32) for n, v in layout.split(model).items()}
    )


def reply_name(round_: int, client: str) -> str:
    """What a reply is called in the manifest."""
    return f"round-{round_:05d}/{client}"


def write_lineage(
    rounds: Sequence[StoredRound],
    final: ScoreArray,
    layout: Layout,
    place: Path,
    *,
    name: str,
    parameters: Mapping[str, Parameter],
    files: Sequence[Named] = (),
    key: PrivateKey | None = None,
) -> Path:
    """Write the manifest of all replies, a statement a round, and a store that holds both.

    Args:
        rounds: What was stored, in order.
        final: The global model after the last of them, shape (d,).
        layout: Of the model.
        place: A directory, made if need be; the three must not be there yet.
        name: Of the federation.
        parameters: For the statements.
        files: The final model in other forms, such as a model directory.
        key: To sign the statements with.

    Returns:
        The store, for ``gifthorse trace --store``.

    Raises:
        DataError: No reply was ever admitted, or something is in the way.
    """
    taken = [path for path in (place / MANIFEST, place / RUNS, place / STORE) if path.exists()]
    if taken:
        raise DataError(f"{taken[0]} exists; choose another place or move it away")
    place.mkdir(parents=True, exist_ok=True)
    samples = [
        Sample(reply_name(one.round, client), client, "", bytes.fromhex(digest))
        for one in rounds
        for client, digest in zip(one.clients, one.digests, strict=True)
    ]
    manifest = write_manifest(samples, place / MANIFEST, name=f"replies of {name}", content="bytes")
    store = SqliteStore(place / STORE)
    try:
        store.add_manifest(manifest)
        (place / RUNS).mkdir()
        models = [*(one.before for one in rounds), final]
        marks = [hashlib.sha256(model_file(model, layout)).hexdigest() for model in models]
        for index, one in enumerate(rounds):
            run = _run(manifest, samples, one, marks[index : index + 2], name, parameters)
            if index == len(rounds) - 1:
                run = replace(run, outputs=(*run.outputs, *files))
            path = place / RUNS / f"round-{one.round:05d}.json"
            store.add_run(write_document(path, run.statement(), key=key))
    finally:
        store.close()
    return place / STORE


def _run(
    manifest: Manifest,
    samples: Sequence[Sample],
    one: StoredRound,
    marks: Sequence[str],
    name: str,
    parameters: Mapping[str, Parameter],
) -> Run:
    """One round: ``marks`` are the digests of the model before and after it."""
    taken = {c for c, ok in zip(one.clients, one.accepted, strict=True) if ok}
    rows: dict[str, list[bool]] = {part.name: [] for part in manifest.head.contributors}
    for sample in samples:
        mine = sample.id == reply_name(one.round, sample.contributor)
        rows[sample.contributor].append(mine and sample.contributor in taken)
    moment = now()
    return Run(
        id=f"{manifest.head.root[:16]}/round-{one.round:05d}",
        name=f"{name}, round {one.round}",
        started=moment,
        finished=moment,
        outputs=(Named(name=f"global-{one.round:05d}.safetensors", digest=marks[1]),),
        consumed=(
            Consumed(
                name=manifest.head.name,
                root=manifest.head.root,
                content="bytes",
                checked="content",
                presentations=len(taken),
                contributors=tuple(
                    ConsumedPart.of(part, np.array(rows[part.name], dtype=np.bool_))
                    for part in manifest.head.contributors
                ),
            ),
        ),
        parents=(Named(name="global model before.safetensors", digest=marks[0]),),
        parameters=dict(parameters),
    )
