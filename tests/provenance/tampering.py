"""Random changes to a signed directory, each of which must be refused.

A mutation gets the directory and a generator, and returns False if it could not be made (nothing to
truncate, say). What it must never do is leave the directory as it was signed.
"""

import base64
import json
import os
import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from gifthorse.provenance.envelope import canonical, seal
from gifthorse.provenance.keys import PrivateKey

SIGNATURE = "gifthorse.sig"
Mutation = Callable[[Path, random.Random, PrivateKey], bool]


def _files(place: Path) -> list[Path]:
    found = [p for p in place.rglob("*") if p.is_file() and not p.is_symlink()]
    return sorted(p for p in found if p.name != SIGNATURE)


def _full(place: Path) -> list[Path]:
    return [p for p in _files(place) if p.stat().st_size]


def flip_a_bit(place: Path, rng: random.Random, _: PrivateKey) -> bool:
    path = rng.choice(_full(place))
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    return True


def flip_a_bit_of_the_signature(place: Path, rng: random.Random, _: PrivateKey) -> bool:
    path = place / SIGNATURE
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    return True


def truncate(place: Path, rng: random.Random, _: PrivateKey) -> bool:
    path = rng.choice([*_full(place), place / SIGNATURE])
    os.truncate(path, rng.randrange(path.stat().st_size))
    return True


def append(place: Path, rng: random.Random, _: PrivateKey) -> bool:
    path = rng.choice([*_files(place), place / SIGNATURE])
    with path.open("ab") as file:
        file.write(rng.randbytes(rng.randint(1, 9)))
    return True


def rename(place: Path, rng: random.Random, _: PrivateKey) -> bool:
    path = rng.choice(_files(place))
    path.rename(path.with_name(f"{path.stem}{rng.choice('abc_')}{path.suffix}"))
    return True


def move_to_another_folder(place: Path, rng: random.Random, _: PrivateKey) -> bool:
    path = rng.choice(_files(place))
    folder = place / f"folder{rng.randrange(9)}"
    folder.mkdir()
    path.rename(folder / path.name)
    return True


def swap_two_files(place: Path, rng: random.Random, _: PrivateKey) -> bool:
    one, two = rng.sample(_files(place), 2)
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    return first != second


def add_a_file(place: Path, rng: random.Random, _: PrivateKey) -> bool:
    name = rng.choice(["extra.py", ".git/config", "tokenizer/a.json", "model.sig", ".hidden"])
    path = place / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(rng.randbytes(rng.randrange(4)))
    return True


def remove_a_file(place: Path, rng: random.Random, _: PrivateKey) -> bool:
    rng.choice([*_files(place), place / SIGNATURE]).unlink()
    return True


def exchange_for_a_link(place: Path, rng: random.Random, _: PrivateKey) -> bool:
    """Even a link to exactly the signed bytes is refused: what it points to can change."""
    path = rng.choice(_files(place))
    elsewhere = place.parent / f"elsewhere{rng.randrange(1 << 30)}"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    return True


def link_a_directory(place: Path, rng: random.Random, _: PrivateKey) -> bool:
    elsewhere = place.parent / f"elsewhere{rng.randrange(1 << 30)}"
    (place / "tokenizer").rename(elsewhere)
    (place / "tokenizer").symlink_to(elsewhere)
    return True


def change_case(place: Path, rng: random.Random, _: PrivateKey) -> bool:
    path = rng.choice(_files(place))
    other = path.with_name(path.name.upper())
    if rng.random() < 0.5:
        path.rename(other)
    else:
        other.write_bytes(path.read_bytes())
    return True


def disguise_in_unicode(place: Path, rng: random.Random, _: PrivateKey) -> bool:
    path = rng.choice(_files(place))
    odd = rng.choice(["\u200b", "\u0301", "\u202e", "\u00ad", "\ufe0f", "\u0430"])
    other = path.with_name(f"{path.stem}{odd}{path.suffix}")
    if rng.random() < 0.5:
        path.rename(other)
    else:
        other.write_bytes(path.read_bytes())
    return True


def edit_the_payload(place: Path, rng: random.Random, _: PrivateKey) -> bool:
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


def sign_with_another_key(place: Path, rng: random.Random, stranger: PrivateKey) -> bool:
    """The same statement signed by someone else; half of the time under the trusted key's id."""
    path = place / SIGNATURE
    data = json.loads(path.read_bytes())
    statement = json.loads(base64.b64decode(data["payload"]))
    forged = json.loads(seal(statement, [stranger]))
    if rng.random() < 0.5:
        forged["signatures"][0]["keyid"] = data["signatures"][0]["keyid"]
    path.write_bytes(canonical(forged))
    return True


def garble_the_signature(place: Path, rng: random.Random, _: PrivateKey) -> bool:
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


def respell_the_signature(place: Path, rng: random.Random, _: PrivateKey) -> bool:
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
    )
}
