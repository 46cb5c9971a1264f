"""`gifthorse keygen`."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from gifthorse.cli.console import out
from gifthorse.core.errors import TrustInputError
from gifthorse.provenance.keys import NewKind

PASSPHRASE_VARIABLE = "GIFTHORSE_PASSPHRASE"  # noqa: S105 - a name, not a secret


def keygen(
    key: Annotated[Path, typer.Argument(help="Private key to write; the public one is KEY.pub.")],
    kind: Annotated[str, typer.Option("--type", help="ed25519 or ecdsa-p256.")] = "ed25519",
    passphrase: Annotated[
        bool,
        typer.Option(
            "--passphrase",
            help=f"Encrypt the private key; asks, or reads ${PASSPHRASE_VARIABLE}.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make a key pair to sign models and data with.

    Keep KEY secret; give KEY.pub to those who verify. Bundles for the model_signing command need
    --type ecdsa-p256.

    Examples:
      gifthorse keygen alice

      gifthorse keygen release --type ecdsa-p256 --passphrase
    """
    from gifthorse.provenance.keys import generate_key, write_key

    secret = ask_passphrase(confirm=True) if passphrase else None
    made = generate_key(_kind(kind))
    private, public = write_key(made, key, passphrase=secret)
    if as_json:
        page = {"private": str(private), "public": str(public), "keyid": made.public.keyid}
        typer.echo(json.dumps(page, indent=2))
        return
    out.print(f"private key: {escape(str(private))}   (keep it secret)")
    out.print(f"public key:  {escape(str(public))}")
    out.print(f"key id:      {made.public.keyid}")


def ask_passphrase(*, confirm: bool = False) -> str:
    """From the environment, else from the terminal."""
    found = os.environ.get(PASSPHRASE_VARIABLE)
    if found is not None:
        return found
    if not _has_terminal():
        raise TrustInputError(
            f"there is no terminal to ask for the passphrase; set {PASSPHRASE_VARIABLE}"
        )
    answer: str = typer.prompt("passphrase", hide_input=True, confirmation_prompt=confirm, err=True)
    return answer


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))  # what getpass asks on
    except OSError:
        return sys.stdin is not None and sys.stdin.isatty()
    return True


def _kind(kind: str) -> NewKind:
    known: dict[str, NewKind] = {"ed25519": "ed25519", "ecdsa-p256": "ecdsa-p256"}
    if kind not in known:
        raise TrustInputError(f"unknown type of key {kind!r}; known: {', '.join(known)}")
    return known[kind]
