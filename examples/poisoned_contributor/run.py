"""The whole loop: three contributors, one of whom poisons, from the scan to the policy.

    python examples/poisoned_contributor/run.py OUT [--samples 3000] [--epochs 10] [--width 24]

Everything is written to OUT. Nothing is downloaded. Each step below is also a command; the README
of this folder lists them. The attack is planted here so that there is something to find; no later
step looks at what was planted.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gifthorse.attacks.data.badnets import BadNets
from gifthorse.auditing.audit import audit
from gifthorse.auditing.scan import scan
from gifthorse.core.errors import TrustError
from gifthorse.core.record import AuditRecord
from gifthorse.core.types import ImageData, Verdict
from gifthorse.data.images import ArrayImages, digest, subset, to_arrays
from gifthorse.data.npz import save_npz
from gifthorse.data.provenance import picture_samples
from gifthorse.data.sources import load
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.loading import load_classifier
from gifthorse.models.networks import small_network
from gifthorse.models.recording import RecordedImages
from gifthorse.models.saving import save_classifier
from gifthorse.models.training import TrainingPlan, train
from gifthorse.provenance.asking import about_scan
from gifthorse.provenance.checking import Checked, Trust, check
from gifthorse.provenance.contributions import sign_part
from gifthorse.provenance.documents import read_document
from gifthorse.provenance.growing import join
from gifthorse.provenance.keys import PrivateKey, generate_key, write_key
from gifthorse.provenance.lineage import Lineage, proofs
from gifthorse.provenance.manifest import Manifest, write_manifest
from gifthorse.provenance.policy import Policy, read_policy
from gifthorse.provenance.proofs import read_proof
from gifthorse.provenance.quarantine import kept, list_remaining, selected
from gifthorse.provenance.recording import Recorder
from gifthorse.provenance.sign import sign
from gifthorse.provenance.store import SqliteStore
from gifthorse.provenance.verify import verify

PEOPLE = ("alice", "bob", "mallory")
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Pictures, and how the small network is trained on them."""

    samples: int = 6000
    epochs: int = 15
    width: int = 32
    seed: int = 0

    @property
    def plan(self) -> TrainingPlan:
        """How both models are trained."""
        return TrainingPlan(epochs=self.epochs, learning_rate=0.05, shift=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What happened, for the test of this example."""

    first_audit: AuditRecord
    first_scan: AuditRecord
    lineage: Lineage
    checked: Checked
    second_scan: AuditRecord
    second_audit: AuditRecord
    accepted: str
    refused: str
    planted: frozenset[int]


def main(out: Path, settings: Settings, tell: Tell) -> Outcome:
    """Play it through."""
    out.mkdir(parents=True)
    keys = {name: new_key(out, name) for name in (*PEOPLE, "trainer")}

    tell("1. Three contributors deliver signed pictures. Mallory's carry a sticker.")
    delivered, planted = deliveries(settings)
    parts = [contribute(out, name, data, keys[name]) for name, data in delivered.items()]
    whole = joined(list(delivered.values()))
    owners = [name for name, data in delivered.items() for _ in range(len(data))]
    save_npz(whole, out / "all.npz", contributors=owners)
    manifest = join(
        parts,
        out / "all.manifest",
        name="signs of three",
        data=picture_samples(whole),
        data_digest=digest(whole),
    )
    for part in manifest.head.contributors:
        tell(f"   {part.name}: {part.size} pictures, signed root {part.root[:16]}…")

    tell("2. A model is trained; the recorder attests what it consumed, and the trainer signs.")
    model = trained(out / "model", whole, manifest, settings, keys["trainer"], version="1.0")

    tell("3. The model is audited with pictures known to be clean, and its data scanned with it.")
    first_audit = audited(out / "model", settings)
    tell(f"   model: {first_audit.verdict}: {first_audit.reason}")
    first = scan(whole, model=model, seed=settings.seed)
    (out / "scan.json").write_text(first.model_dump_json(indent=1), encoding="utf-8")
    tell(f"   data: {first.verdict}: {first.reason}")
    if first.verdict is not Verdict.FLAGGED:
        raise SystemExit("nothing was found; there is no story to tell")

    tell("4. The flagged samples are traced.")
    store = SqliteStore(out / "lineage.db")
    store.add_manifest(manifest)
    store.add_run(read_document(out / "model" / "provenance.json"))
    lineage = about_scan(store, first)
    for person in lineage.contributors:
        tell(f"   {person.name}: {person.traced} flagged of {person.size}")
    for recalled in lineage.models:
        tell(f"   to recall: {recalled.name}, {recalled.consumed} of them consumed")
    made = proofs(store, lineage)
    (out / "proof.json").write_text(made.model_dump_json(indent=1), encoding="utf-8")

    tell("5. A third party checks the proofs: public keys, no data.")
    checked = third_party(out, keys)
    for line in (*checked.faults, *checked.open, *checked.facts):
        tell(f"   {line}")

    suspect = lineage.contributors[0].name
    tell(f"6. {suspect} supplied most of it, and is put into quarantine.")
    rest, remaining = without(out, whole, manifest, suspect)
    tell(f"   {remaining.head.removed} pictures taken out, {remaining.head.size} stay")

    tell("7. A model is trained on the rest; that data and that model are examined again.")
    again = trained(out / "model2", rest, remaining, settings, keys["trainer"], version="2.0")
    second = scan(rest, model=again, seed=settings.seed)
    (out / "scan2.json").write_text(second.model_dump_json(indent=1), encoding="utf-8")
    tell(f"   data: {second.verdict}: {second.reason}")
    second_audit = audited(out / "model2", settings)
    tell(f"   model: {second_audit.verdict}: {second_audit.reason}")

    tell("8. The policy wants version 2 and revokes the old weights.")
    policy = write_policy(out, lineage)
    accepted = verify(out / "model2", policy=policy, name="acme/signs")
    tell(f"   model2: verified, {accepted.name} {accepted.version} by {accepted.signers[0]}")
    refused = ""
    try:
        verify(out / "model", policy=policy, name="acme/signs")
    except TrustError as error:
        refused = str(error)
    tell(f"   model: refused: {refused}")
    return Outcome(
        first_audit=first_audit,
        first_scan=first,
        lineage=lineage,
        checked=checked,
        second_scan=second,
        second_audit=second_audit,
        accepted=accepted.name,
        refused=refused,
        planted=planted,
    )


def new_key(out: Path, name: str) -> PrivateKey:
    """As ``gifthorse keygen`` does."""
    key = generate_key()
    write_key(key, out / "keys" / name)
    return key


def deliveries(settings: Settings) -> tuple[dict[str, ImageData], frozenset[int]]:
    """A third of the signs from each; Mallory poisons 15 % of hers, 5 % of the whole.

    Returns:
        Pictures by contributor, and the positions of the poisoned ones in the joined data.
    """
    data = load(f"signs:{settings.samples}", seed=settings.seed)
    order = np.random.default_rng(settings.seed).permutation(len(data)).astype(np.int64)
    shares = np.array_split(order, len(PEOPLE))
    parts: dict[str, ImageData] = {
        name: to_arrays(subset(data, share)) for name, share in zip(PEOPLE, shares, strict=True)
    }
    target = data.class_names.index("speed limit 80")
    attack = BadNets(target=target, rate=0.15, size=4, colour="yellow")
    parts["mallory"], truth = attack.poison(
        parts["mallory"], rng=np.random.default_rng(settings.seed)
    )
    start = len(data) - len(shares[-1])
    return parts, frozenset((np.flatnonzero(truth.poisoned) + start).tolist())


def contribute(out: Path, name: str, data: ImageData, key: PrivateKey) -> Manifest:
    """A contributor's pictures with their signed manifest."""
    save_npz(data, out / f"{name}.npz")
    listed = write_manifest(
        picture_samples(data, [name] * len(data)),
        out / f"{name}.manifest",
        name=name,
        content="pixels",
        data_digest=digest(data),
    )
    sign_part(listed, name, key)
    return listed


def joined(parts: list[ImageData]) -> ArrayImages:
    """All pictures, one contributor after the other."""
    arrays = [to_arrays(part) for part in parts]
    return ArrayImages(
        name="signs of three",
        pixels=np.concatenate([part.pixels for part in arrays]),
        labels=np.concatenate([part.labels for part in arrays]),
        class_names=arrays[0].class_names,
    )


def trained(
    place: Path,
    data: ImageData,
    manifest: Manifest,
    settings: Settings,
    key: PrivateKey,
    *,
    version: str,
) -> ImageClassifier:
    """A model in a directory, with what it consumed, signed as a whole."""
    recorder = Recorder(
        manifest,
        parameters={"epochs": settings.epochs, "width": settings.width, "seed": settings.seed},
        code=Path(__file__).parent,
    )
    network = small_network(
        image_shape=data.image_shape,
        class_names=data.class_names,
        seed=settings.seed,
        width=settings.width,
    )
    recorded = RecordedImages(data=data, recorder=recorder)
    model = train(network, recorded, settings.plan, rng=np.random.default_rng(settings.seed))
    save_classifier(model, place)
    recorder.attest(place, key=key, digest=load_classifier(place).digest())
    sign(place, key=key, name="acme/signs", version=version)
    return model


def audited(place: Path, settings: Settings) -> AuditRecord:
    """The audit of a model directory, files first, with pictures that nobody delivered."""
    trusted = load("signs", split="test", seed=settings.seed + 1)
    record = audit(place, trusted=trusted, seed=settings.seed)
    (place.parent / f"{place.name}-audit.json").write_text(
        record.model_dump_json(indent=1), encoding="utf-8"
    )
    return record


def third_party(out: Path, keys: dict[str, PrivateKey]) -> Checked:
    """What someone with the file of proofs and public keys alone finds."""
    proof = read_proof(out / "proof.json")
    named = {part.name for one in proof.data_sets for part in one.contributors}
    return check(
        proof,
        Trust(
            trainers={"trainer": keys["trainer"].public},
            contributors={name: keys[name].public for name in sorted(named)},
        ),
    )


def without(
    out: Path, data: ImageData, manifest: Manifest, name: str
) -> tuple[ImageData, Manifest]:
    """The data set without a contributor, and its manifest."""
    dropped = selected(manifest, contributors=frozenset({name}))
    owners = [sample.contributor for sample in kept(manifest, dropped)]
    rest = subset(data, np.flatnonzero(~dropped).astype(np.int64))
    save_npz(rest, out / "clean.npz", contributors=owners)
    clean = load(f"npz:{out / 'clean.npz'}")
    remaining = list_remaining(
        manifest,
        picture_samples(clean),
        out / "clean.manifest",
        dropped=dropped,
        data_digest=digest(clean),
    )
    return clean, remaining


def write_policy(out: Path, lineage: Lineage) -> Policy:
    """Only the trainer may sign acme/signs, from version 2 on; recalled weights are revoked."""
    revoked = [
        f'"sha256:{found}"'
        for model in lineage.models
        for name, found in model.files.items()
        if name.endswith(".safetensors")
    ]
    (out / "trust.toml").write_text(
        "schema = 1\n\n"
        '[[signer]]\nname = "trainer"\nkey = "keys/trainer.pub"\n\n'
        '[[rule]]\nmodels = "acme/signs"\nsigners = ["trainer"]\nminimum_version = "2.0"\n\n'
        f"[revoked]\ndigests = [{', '.join(revoked)}]\n",
        encoding="utf-8",
    )
    return read_policy(out / "trust.toml")


def arguments(words: Sequence[str] | None = None) -> tuple[Path, Settings]:
    """The folder and the settings that a command line names."""
    usual = Settings()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path)
    parser.add_argument("--samples", type=int, default=usual.samples)
    parser.add_argument("--epochs", type=int, default=usual.epochs)
    parser.add_argument("--width", type=int, default=usual.width)
    parser.add_argument("--seed", type=int, default=usual.seed)
    given = parser.parse_args(words)
    settings = Settings(
        samples=given.samples, epochs=given.epochs, width=given.width, seed=given.seed
    )
    return given.out, settings


if __name__ == "__main__":
    main(*arguments(), lambda line: print(line, file=sys.stdout, flush=True))
