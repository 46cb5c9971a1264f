"""Random changes to a signed directory, each of which must be refused.

A mutation gets the directory and a generator, and returns False if it could not be made (nothing to
truncate, say). What it must never do is leave the directory as it was signed.
"""

import base64
import json
import os
import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from gifthorse.provenance.envelope import canonical, seal
from gifthorse.provenance.keys import PrivateKey, read_private_key
from gifthorse.provenance.policy import Policy, build_policy
from gifthorse.provenance.sign import sign, sign_bundle

from .authority import NOW, YEAR, Authority

SIGNATURE = "gifthorse.sig"
NAME = "acme/m"
CERTIFIED = "acme/certified"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Who is about: the trusted signer, a stranger, and the CA whose certificates for alice count.

    ``trust`` is the policy: the trusted signer signs ``NAME`` from version 2 on, and alice, known
    by a certificate, signs ``CERTIFIED``.
    """

    trusted: PrivateKey
    stranger: PrivateKey
    authority: Authority
    trust: Policy


Mutation = Callable[[Path, random.Random, Scene], bool]


def make_scene(folder: Path, trusted: PrivateKey, stranger: PrivateKey) -> Scene:
    authority = Authority()
    ca = authority.write(folder / "ca.pem")
    content = {
        "schema": 1,
        "signer": [
            {"name": "trusted", "key": trusted.public.pem.decode()},
            {"name": "alice", "ca": str(ca), "subject": "alice"},
        ],
        "rule": [
            {"models": NAME, "signers": ["trusted"], "minimum_version": "2"},
            {"models": CERTIFIED, "signers": ["alice"]},
        ],
    }
    policy = build_policy(content, source="the policy", folder=folder)
    return Scene(trusted=trusted, stranger=stranger, authority=authority, trust=policy)


def _files(place: Path) -> list[Path]:
    found = [p for p in place.rglob("*") if p.is_file() and not p.is_symlink()]
    return sorted(p for p in found if p.name != SIGNATURE)


def _full(place: Path) -> list[Path]:
    return [p for p in _files(place) if p.stat().st_size]


def flip_a_bit(place: Path, rng: random.Random, _: Scene) -> bool:
    path = rng.choice(_full(place))
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    return True


def flip_a_bit_of_the_signature(place: Path, rng: random.Random, _: Scene) -> bool:
    path = place / SIGNATURE
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    return True


def truncate(place: Path, rng: random.Random, _: Scene) -> bool:
    path = rng.choice([*_full(place), place / SIGNATURE])
    os.truncate(path, rng.randrange(path.stat().st_size))
    return True


def append(place: Path, rng: random.Random, _: Scene) -> bool:
    path = rng.choice([*_files(place), place / SIGNATURE])
    with path.open("ab") as file:
        file.write(rng.randbytes(rng.randint(1, 9)))
    return True


def rename(place: Path, rng: random.Random, _: Scene) -> bool:
    path = rng.choice(_files(place))
    path.rename(path.with_name(f"{path.stem}{rng.choice('abc_')}{path.suffix}"))
    return True


def move_to_another_folder(place: Path, rng: random.Random, _: Scene) -> bool:
    path = rng.choice(_files(place))
    folder = place / f"folder{rng.randrange(9)}"
    folder.mkdir()
    path.rename(folder / path.name)
    return True


def swap_two_files(place: Path, rng: random.Random, _: Scene) -> bool:
    one, two = rng.sample(_files(place), 2)
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    return first != second


def add_a_file(place: Path, rng: random.Random, _: Scene) -> bool:
    name = rng.choice(["extra.py", ".git/config", "tokenizer/a.json", "model.sig", ".hidden"])
    path = place / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(rng.randbytes(rng.randrange(4)))
    return True


def remove_a_file(place: Path, rng: random.Random, _: Scene) -> bool:
    rng.choice([*_files(place), place / SIGNATURE]).unlink()
    return True


def exchange_for_a_link(place: Path, rng: random.Random, _: Scene) -> bool:
    """Even a link to exactly the signed bytes is refused: what it points to can change."""
    path = rng.choice(_files(place))
    elsewhere = place.parent / f"elsewhere{rng.randrange(1 << 30)}"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    return True


def link_a_directory(place: Path, rng: random.Random, _: Scene) -> bool:
    elsewhere = place.parent / f"elsewhere{rng.randrange(1 << 30)}"
    (place / "tokenizer").rename(elsewhere)
    (place / "tokenizer").symlink_to(elsewhere)
    return True


def change_case(place: Path, rng: random.Random, _: Scene) -> bool:
    path = rng.choice(_files(place))
    other = path.with_name(path.name.upper())
    if rng.random() < 0.5:
        path.rename(other)
    else:
        other.write_bytes(path.read_bytes())
    return True


def disguise_in_unicode(place: Path, rng: random.Random, _: Scene) -> bool:
    path = rng.choice(_files(place))
    odd = rng.choice(["\u200b", "\u0301", "\u202e", "\u00ad", "\ufe0f", "\u0430"])
    other = path.with_name(f"{path.stem}{odd}{path.suffix}")
    if rng.random() < 0.5:
        path.rename(other)
    else:
        other.write_bytes(path.read_bytes())
    return True


def edit_the_payload(place: Path, rng: random.Random, _: Scene) -> bool:
    """A changed file, and a statement that fits it, below the old signature."""
    path = place / SIGNATURE
    data = json.loads(path.read_bytes())
    statement = json.loads(base64.b64decode(data["payload"]))
    _edit(statement, rng)
    data["payload"] = base64.b64encode(canonical(statement)).decode()
    path.write_bytes(canonical(data))
    return True


def _edit(statement: dict[str, object], rng: random.Random) -> None:
    predicate = statement["predicate"]
    assert isinstance(predicate, dict)
    kind = rng.randrange(4)
    if kind == 0:
        predicate["version"] = f"9.{rng.randrange(99)}"
    elif kind == 1:
        entry = rng.choice(predicate["files"])
        entry["digest"] = rng.randbytes(32).hex()
    elif kind == 2:
        predicate["files"].pop(rng.randrange(len(predicate["files"])))
    else:
        predicate["signedAt"] = datetime.now(UTC).isoformat()


def sign_with_another_key(place: Path, rng: random.Random, scene: Scene) -> bool:
    """The same statement signed by someone else; half of the time under the trusted key's id."""
    path = place / SIGNATURE
    data = json.loads(path.read_bytes())
    statement = json.loads(base64.b64decode(data["payload"]))
    forged = json.loads(seal(statement, [scene.stranger]))
    if rng.random() < 0.5:
        forged["signatures"][0]["keyid"] = data["signatures"][0]["keyid"]
    path.write_bytes(canonical(forged))
    return True


def garble_the_signature(place: Path, rng: random.Random, _: Scene) -> bool:
    path = place / SIGNATURE
    data = json.loads(path.read_bytes())
    entry = data["signatures"][0]
    kind = rng.randrange(5)
    if kind == 0:
        entry["sig"] = base64.b64encode(rng.randbytes(64)).decode()
    elif kind == 1:
        entry["keyid"] = rng.randbytes(32).hex()
    elif kind == 2:
        data["signatures"] = []
    elif kind == 3:
        data["payloadType"] = "application/json"
    else:
        data[rng.choice(["payload", "signatures", "payloadType"])] = rng.choice(
            [None, 1, [], {}, "x", [None], [{}]]
        )
    path.write_bytes(canonical(data))
    return True


def respell_the_signature(place: Path, rng: random.Random, _: Scene) -> bool:
    """The same content in another spelling: white space, order, padding."""
    path = place / SIGNATURE
    data = path.read_bytes()
    text = json.loads(data)
    spelt = rng.choice(
        [
            json.dumps(text, indent=rng.randint(0, 8)).encode(),
            data.rstrip() + b" " * rng.randint(2, 99),
            b" " * rng.randint(1, 99) + data,
            json.dumps(dict(reversed(text.items()))).encode(),
        ]
    )
    path.write_bytes(spelt)
    return spelt != data


def replay_an_older_version(place: Path, rng: random.Random, scene: Scene) -> bool:
    """What the trusted signer really signed once: whole, its signature, or its files alone."""
    now = {path: path.read_bytes() for path in [*_files(place), place / SIGNATURE]}
    for _ in range(rng.randrange(3)):
        flip_a_bit(place, rng, scene)
    sign(place, key=scene.trusted, name=NAME, version=_old(rng), replace=True)
    kind = rng.randrange(3)
    if kind == 1:
        for path in now.keys() - {place / SIGNATURE}:
            path.write_bytes(now[path])
    elif kind == 2:
        (place / SIGNATURE).write_bytes(now[place / SIGNATURE])
        return any(path.read_bytes() != content for path, content in now.items())
    return True


def _old(rng: random.Random) -> str | None:
    """A version below 2, or none."""
    number = rng.randrange(1000)
    kinds = ("0.{}", "1.{}", "1.{}.post1", "2.dev{}", "2a{}", "2.0.0rc{}", "0!1.{}", None)
    chosen = rng.choice(kinds)
    return None if chosen is None else chosen.format(number)


def replay_another_model(place: Path, rng: random.Random, scene: Scene) -> bool:
    """These files, signed by the trusted signer for another purpose."""
    name = f"acme/{rng.choice(['m', 'other'])}{rng.randrange(1, 1000)}"
    sign(place, key=scene.trusted, name=name, version="3", replace=True)
    return True


def certify(place: Path, scene: Scene, issuer: Authority, **how: Any) -> None:
    """Sign as alice with a new certificate, in the place of the signature that is there."""
    folder = Path(tempfile.mkdtemp(dir=place.parent))
    secret, certificate = issuer.signer(folder, **how)
    chain = issuer.write(folder / "chain.pem") if issuer is not scene.authority else None
    (place / SIGNATURE).unlink()
    key = read_private_key(secret)
    sign_bundle(place, key=key, certificate=certificate, chain=chain, name=CERTIFIED)


def sign_with_an_expired_certificate(place: Path, rng: random.Random, scene: Scene) -> bool:
    """The right CA and subject at the wrong time; or an authority between them that expired."""
    years, off = rng.uniform(0.001, 5), rng.choice((rng.uniform(1, 100), rng.uniform(1, 1e8)))
    gone = NOW - timedelta(seconds=off) - years * YEAR
    kind = rng.randrange(3)
    if kind == 0:
        certify(place, scene, scene.authority, start=gone, years=years)
    elif kind == 1:
        start = datetime.now(UTC) + timedelta(minutes=1, seconds=off)
        certify(place, scene, scene.authority, start=start, years=years)
    else:
        between = Authority("Between", above=scene.authority, start=gone, years=years)
        certify(place, scene, between)
    return True


def sign_with_a_certificate_that_proves_nothing(
    place: Path, rng: random.Random, scene: Scene
) -> bool:
    """For somebody else, for another purpose, or by a CA that only calls itself the same."""
    kind = rng.randrange(3)
    if kind == 0:
        names = ["bob", "alic", "alice ", "ALICE", "al\u0456ce", "alice2", "CN=alice", "*"]
        certify(place, scene, scene.authority, subject=rng.choice(names))
    elif kind == 1:
        certify(place, scene, scene.authority, signing=False)
    else:
        certify(place, scene, Authority())
    return True


MUTATIONS: dict[str, Mutation] = {
    function.__name__: function
    for function in (
        flip_a_bit,
        flip_a_bit_of_the_signature,
        truncate,
        append,
        rename,
        move_to_another_folder,
        swap_two_files,
        add_a_file,
        remove_a_file,
        exchange_for_a_link,
        link_a_directory,
        change_case,
        disguise_in_unicode,
        edit_the_payload,
        sign_with_another_key,
        garble_the_signature,
        respell_the_signature,
        replay_an_older_version,
        replay_another_model,
        sign_with_an_expired_certificate,
        sign_with_a_certificate_that_proves_nothing,
    )
}

REASONS = {
    "replay_an_older_version": "older than 2|names no version|changed after",
    "replay_another_model": "it was signed as",
    "sign_with_an_expired_certificate": "valid from|does not lead to the CA: .*(expired|yet valid)",
    "sign_with_a_certificate_that_proves_nothing": "not for alice|not meant for|does not lead",
}
"""Why some of them must be refused, so that they are not refused for something else."""
