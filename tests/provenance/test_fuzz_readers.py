"""Damaged envelopes, bundles, manifests, proofs and policies: an error, never a crash or a hang.

What is still accepted must say the same as before it was damaged. The slow tests run for
``GIFTHORSE_FUZZ_SECONDS`` (default 5) a reader.
"""

import base64
import contextlib
import json
import random
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from gifthorse.core.errors import GifthorseError, TrustError
from gifthorse.provenance.bundles import seal_bundle
from gifthorse.provenance.checking import Trust, check
from gifthorse.provenance.contributions import sign_part
from gifthorse.provenance.documents import read_document, signers, statement_in
from gifthorse.provenance.envelope import canonical, read_envelope, read_statement, seal
from gifthorse.provenance.explain import explain_policy
from gifthorse.provenance.keys import generate_key, read_private_key
from gifthorse.provenance.lineage import forward, proofs
from gifthorse.provenance.manifest import open_manifest
from gifthorse.provenance.policy import Policy, build_policy, policy_for_keys, read_policy
from gifthorse.provenance.proofs import read_proof
from gifthorse.provenance.recording import Recorder
from gifthorse.provenance.runs import run_of
from gifthorse.provenance.sign import sign, sign_bundle
from gifthorse.provenance.store import SqliteStore
from gifthorse.provenance.verify import Verified, verify

from .authority import Authority
from .examples import listed, samples
from .fuzzing import MOST_MEMORY_MIB, SECONDS, damaged_json, edited, mutated, no_hang

Case = Callable[[random.Random], None]


@dataclass(frozen=True, kw_only=True)
class Signed:
    """A signed directory, and what may still be said about it when its signature is damaged."""

    place: Path
    policy: Policy
    data: bytes
    proven: Verified

    def check(self, data: bytes) -> None:
        try:
            found = verify(self.place, policy=self.policy, signature_bytes=data)
        except TrustError:
            assert data != self.data
            return
        assert (found.files, found.signers) == (self.proven.files, self.proven.signers)


def _signed(place: Path, policy: Policy, signature: Path) -> Signed:
    proven = verify(place, policy=policy, signature=signature)
    return Signed(place=place, policy=policy, data=signature.read_bytes(), proven=proven)


def _envelopes(folder: Path) -> Case:
    key = generate_key()
    model = folder / "model"
    policy = policy_for_keys([key.public])
    signed = _signed(model, policy, sign(model, key=key, version="1").signature)
    statement = json.loads(base64.b64decode(json.loads(signed.data)["payload"]))

    def case(rng: random.Random) -> None:
        data = damaged_json(signed.data, rng)
        signed.check(data)
        with contextlib.suppress(TrustError):
            read_statement(read_envelope(data).payload)
        # Somebody we trust may sign nonsense, too.
        nonsense = edited(statement, rng)
        with contextlib.suppress(TrustError):
            verify(model, policy=policy, signature_bytes=seal(nonsense, [key]))

    return case


def _bundles(folder: Path) -> Case:
    model, key = folder / "model", generate_key("ecdsa-p256")
    authority = Authority()
    secret, certificate = authority.signer(folder)
    certified = read_private_key(secret)
    policy = build_policy(
        {
            "schema": 1,
            "signer": [
                {"name": "key", "key": key.public.pem.decode()},
                {"name": "ca", "ca": str(authority.write(folder / "ca.pem")), "subject": "alice"},
            ],
            "rule": [{"signers": ["key", "ca"]}],
        },
        source="the policy",
        folder=folder,
    )
    ours = sign_bundle(model, key=key, signature=folder / "key.sig").signature
    theirs = sign_bundle(
        model, key=certified, certificate=certificate, signature=folder / "certificate.sig"
    ).signature
    seeds = [_signed(model, policy, place) for place in (ours, theirs)]
    statement = json.loads(base64.b64decode(json.loads(seeds[0].data)["dsseEnvelope"]["payload"]))

    def case(rng: random.Random) -> None:
        signed = rng.choice(seeds)
        signed.check(damaged_json(signed.data, rng))
        nonsense = json.dumps(edited(statement, rng)).encode()
        with contextlib.suppress(TrustError):
            verify(model, policy=policy, signature_bytes=canonical(seal_bundle(nonsense, key, ())))
        listed_ = json.loads(seeds[1].data)
        chain = listed_["verificationMaterial"]["x509CertificateChain"]["certificates"]
        chain[0]["rawBytes"] = base64.b64encode(
            mutated(base64.b64decode(chain[0]["rawBytes"]), rng)
        ).decode()
        seeds[1].check(canonical(listed_))

    return case


def _manifests(folder: Path) -> Case:
    place = listed(folder / "m").place
    sign_part(open_manifest(place), "bob", generate_key())
    originals = {name: (place / name).read_bytes() for name in ("manifest.json", "samples.jsonl")}

    def case(rng: random.Random) -> None:
        name = rng.choice(sorted(originals))
        damage = damaged_json if name == "manifest.json" else mutated
        (place / name).write_bytes(damage(originals[name], rng))
        try:
            made = open_manifest(place)
            made.verify()
            # White space, the order of keys, or facts that no root stands for.
            assert list(made.samples()) == samples()
        except GifthorseError:
            pass
        finally:
            (place / name).write_bytes(originals[name])

    return case


def _proofs(folder: Path) -> Case:
    manifest, key = listed(folder / "m"), generate_key()
    sign_part(manifest, "bob", key)
    recorder = Recorder(manifest, parameters={"epochs": 1}, parents=[])
    recorder.consume(np.arange(20))
    (folder / "trained").mkdir()
    (folder / "trained" / "model.safetensors").write_bytes(b"weights")
    run = read_document(recorder.attest(folder / "trained", key=key))
    with contextlib.closing(SqliteStore(folder / "store.db")) as store:
        store.add_manifest(manifest)
        store.add_run(run)
        positions = list(store.at(manifest.head.root, [1, 4, 7]))
        made = proofs(store, forward(store, positions, question="all")).model_dump_json().encode()
    trust = Trust(trainers={"t": key.public}, contributors={"bob": key.public})
    plain = statement_in(run)

    def case(rng: random.Random) -> None:
        data = damaged_json(made, rng)
        (folder / "proof.json").write_bytes(data)
        with contextlib.suppress(GifthorseError):
            check(read_proof(folder / "proof.json"), trust)
        (folder / "run.json").write_bytes(damaged_json(json.dumps(run).encode(), rng))
        with contextlib.suppress(GifthorseError):
            document = read_document(folder / "run.json")
            assert not signers(document, trust.trainers) or statement_in(document) == plain
            run_of(statement_in(document))
        (folder / "run.json").write_bytes(damaged_json(json.dumps(plain).encode(), rng))
        with contextlib.suppress(GifthorseError):
            run_of(statement_in(read_document(folder / "run.json")))

    return case


_POLICY = """schema = 1
[[signer]]
name = "alice"
key = "alice.pub"
[[signer]]
name = "bob"
key = '''
{pem}'''
[[signer]]
name = "carol"
ca = "ca.pem"
subject = "carol@example.org"
[[signer]]
name = "release"
identity = "https://github.com/acme/signs/.github/workflows/release.yml@refs/heads/main"
issuer = "https://token.actions.githubusercontent.com"
[[rule]]
models = "acme/*"
signers = ["alice", "bob", "carol"]
threshold = 2
minimum_version = "1.2"
signatures = ["dsse", "oms"]
files = ["*.safetensors", "*.json", "*.txt"]
allow_unsigned = [".git"]
[[rule]]
signers = ["release"]
[revoked]
keys = ["{keyid}"]
digests = ["sha256:{keyid}"]
"""
_VALUES = (
    *("0", "-1", "99999999999999999999", "1.5", "nan", "true", '""', '"*"', '"["', "[]", "[[]]"),
    *("{}", '"\\u0000"', '"../../x"', '"1!2.3+x"', "2020-01-01", "'''", '"' + "a" * 9000 + '"'),
    *('["alice", "alice"]', '"/dev/zero"', '"."', "[" * 2000, "{a={" * 500),
)


def _damaged_toml(text: str, rng: random.Random) -> bytes:
    if rng.random() < 0.4:
        return mutated(text.encode(), rng)
    lines = text.split("\n")
    for _ in range(rng.choice((1, 1, 2, 4))):
        at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
        match rng.randrange(4):
            case 0:
                lines[at] = f"{lines[at].partition('=')[0]}= {rng.choice(_VALUES)}"
            case 1:
                lines.insert(at, lines[other])
            case 2:
                lines[at], lines[other] = lines[other], lines[at]
            case _:
                del lines[at]
        lines = lines or [""]
    return "\n".join(lines).encode()


def _policies(folder: Path) -> Case:
    model, alice, bob = folder / "model", generate_key(), generate_key()
    sign(model, key=alice, name="acme/m", version="2")
    text = _POLICY.format(pem=bob.public.pem.decode(), keyid="ab" * 32)
    files = {
        "trust.toml": text.encode(),
        "alice.pub": alice.public.pem,
        "ca.pem": Authority().write(folder / "ca.pem").read_bytes(),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    read_policy(folder / "trust.toml")  # it is one before it is damaged

    def case(rng: random.Random) -> None:
        name = rng.choice(("trust.toml", "trust.toml", "alice.pub", "ca.pem"))
        content = _damaged_toml(text, rng) if name == "trust.toml" else mutated(files[name], rng)
        (folder / name).write_bytes(content)
        try:
            policy = read_policy(folder / "trust.toml")
            assert explain_policy(policy)
            known = {*policy.keys, *policy.certified, *policy.identified}
            for rule in policy.rules:
                assert set(rule.signers) <= known
                assert 1 <= rule.threshold <= len(set(rule.signers))
            verify(model, policy=policy)
        except TrustError:
            pass
        finally:
            (folder / name).write_bytes(files[name])

    return case


READERS: dict[str, Callable[[Path], Case]] = {
    "envelope": _envelopes,
    "bundle": _bundles,
    "manifest": _manifests,
    "proof": _proofs,
    "policy": _policies,
}


def _fuzz(case: Case, seed: int, go_on: Callable[[int], bool]) -> int:
    done = 0
    while go_on(done):
        try:
            with no_hang():
                case(random.Random(f"{seed}-{done}"))  # noqa: S311 - repeatable, not secret
        except BaseException:
            print(f"seed {seed}, case {done}")  # noqa: T201 - shown if the test fails
            raise
        done += 1
    return done


@pytest.mark.parametrize("reader", READERS)
def test_damaged_files(reader: str, model: Path, tmp_path: Path) -> None:
    assert _fuzz(READERS[reader](tmp_path), 0, lambda done: done < 150) == 150


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_damaged_files_for_long(reader: str, model: Path, tmp_path: Path) -> None:
    case = READERS[reader](tmp_path)
    _fuzz(case, 0, lambda done: done < 20)  # libraries are loaded before memory is measured
    end, before = time.monotonic() + SECONDS, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seed = random.randrange(1 << 30)  # noqa: S311 - not for secrets
    done = _fuzz(case, seed, lambda _: time.monotonic() < end)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"{reader}: {done} cases in {SECONDS:g} s, memory grew by {grown:.0f} MiB")  # noqa: T201
    assert done > 2 * SECONDS
    assert grown < MOST_MEMORY_MIB
