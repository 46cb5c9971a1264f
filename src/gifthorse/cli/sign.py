"""`gifthorse sign`."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from gifthorse.cli.console import out
from gifthorse.cli.keygen import PASSPHRASE_VARIABLE, ask_passphrase
from gifthorse.core.errors import TrustInputError
from gifthorse.provenance.digests import ALGORITHMS, Algorithm


def sign(
    path: Annotated[Path, typer.Argument(help="Model or data directory, or a single file.")],
    key: Annotated[Path, typer.Option("--key", help="Private key, made by gifthorse keygen.")],
    name: Annotated[
        str | None,
        typer.Option("--name", help="What it is called in policies (default: its file name)."),
    ] = None,
    version: Annotated[
        str | None, typer.Option("--version", help="Version, so that policies can refuse old ones.")
    ] = None,
    signature: Annotated[
        Path | None,
        typer.Option(
            "--signature", help="Signature file (default: PATH/gifthorse.sig, or FILE.sig)."
        ),
    ] = None,
    digest: Annotated[
        str, typer.Option("--digest", help="sha256, or blake3: faster, but less common.")
    ] = "sha256",
    oms: Annotated[
        bool,
        typer.Option(
            "--oms", help="Write an OpenSSF Model Signing bundle (model.sig); ECDSA keys only."
        ),
    ] = False,
    certificate: Annotated[
        Path | None, typer.Option("--certificate", help="Of the key, in PEM; with --oms.")
    ] = None,
    chain: Annotated[
        Path | None,
        typer.Option("--chain", help="Certificates that lead to the CA, in PEM; with --oms."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option("--exclude", help="File or directory to leave unsigned; may be repeated."),
    ] = None,
    add: Annotated[
        bool, typer.Option("--add", help="Add a signature to the one that is there.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Sign anew, in place of the signature that is there.")
    ] = False,
    passphrase: Annotated[
        bool,
        typer.Option(
            "--passphrase", help=f"The key is encrypted; asks, or reads ${PASSPHRASE_VARIABLE}."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Sign every file of a model or data set.

    Names, sizes and contents are bound; links and ambiguous names are refused. A signature says
    who made something, not that it is harmless.

    Exit code: 0 signed, 1 there is something that cannot be signed, 2 bad input.

    Examples:
      gifthorse sign ./model --key alice --name acme/signs --version 1.2

      gifthorse sign ./model --key bob --add

      gifthorse sign weights.safetensors --key alice

      gifthorse sign ./model --key ec --oms --certificate ec.crt --chain intermediate.crt
    """
    from gifthorse.provenance.keys import read_private_key
    from gifthorse.provenance.sign import countersign, sign_bundle
    from gifthorse.provenance.sign import sign as run_sign

    if not oms and (certificate or chain):
        raise TrustInputError("certificates are for OpenSSF Model Signing; add --oms")
    if oms and (add or version):
        raise TrustInputError("an OpenSSF Model Signing bundle has one signature and no version")

    secret = read_private_key(key, passphrase=ask_passphrase() if passphrase else None)
    if add:
        place = countersign(path, key=secret, signature=signature)
        page: dict[str, object] = {"signature": str(place), "keyid": secret.public.keyid}
    else:
        made = (
            sign_bundle(
                path,
                key=secret,
                certificate=certificate,
                chain=chain,
                name=name,
                algorithm=_algorithm(digest),
                signature=signature,
                exclude=tuple(exclude or ()),
                replace=replace,
            )
            if oms
            else run_sign(
                path,
                key=secret,
                name=name,
                version=version,
                algorithm=_algorithm(digest),
                signature=signature,
                exclude=tuple(exclude or ()),
                replace=replace,
            )
        )
        page = {
            "signature": str(made.signature),
            "name": made.name,
            "version": made.version,
            "digest": made.digest,
            "files": len(made.files),
            "bytes": sum(file.size for file in made.files),
            "keyid": made.keyid,
        }
    if as_json:
        typer.echo(json.dumps(page, indent=2))
        return
    for field, value in page.items():
        if value is not None:
            out.print(f"{field}: {escape(str(value))}")


def _algorithm(digest: str) -> Algorithm:
    known: dict[str, Algorithm] = {name: name for name in ALGORITHMS}
    if digest not in known:
        raise TrustInputError(f"unknown digest {digest!r}; known: {', '.join(known)}")
    return known[digest]
