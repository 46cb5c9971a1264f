"""`gifthorse verify`."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from gifthorse.cli.console import err, out
from gifthorse.core.errors import TrustError, TrustInputError
from gifthorse.provenance.policy import Policy


def verify(
    path: Annotated[Path, typer.Argument(help="Model or data directory, or a single file.")],
    key: Annotated[
        list[Path] | None,
        typer.Option("--key", help="Public key that you trust; may be repeated."),
    ] = None,
    policy: Annotated[
        Path | None, typer.Option("--policy", help="trust.toml: who may sign what.")
    ] = None,
    threshold: Annotated[
        int, typer.Option("--threshold", min=1, help="How many of the keys must have signed.")
    ] = 1,
    name: Annotated[
        str | None, typer.Option("--name", help="The name that it must have been signed under.")
    ] = None,
    signature: Annotated[
        Path | None,
        typer.Option(
            "--signature", help="Signature file (default: PATH/gifthorse.sig, or FILE.sig)."
        ),
    ] = None,
    allow_unsigned: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-unsigned",
            help="File or directory that may lie there unsigned, like .git; with --key only.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check that files are, byte for byte, what someone you trust has signed.

    Exit code: 0 everything holds, 1 something does not, 2 bad input.

    Examples:
      gifthorse verify ./model --key alice.pub

      gifthorse verify ./model --policy trust.toml --name acme/signs --json

      gifthorse verify ./model --key alice.pub --key bob.pub --threshold 2
    """
    from gifthorse.provenance.verify import verify as run_verify

    trusted = _policy(key or [], policy, threshold, allow_unsigned or [])
    try:
        found = run_verify(path, policy=trusted, signature=signature, name=name)
    except TrustInputError:
        raise
    except TrustError as error:
        if as_json:
            typer.echo(json.dumps({"verified": False, "reason": str(error)}, indent=2))
        else:
            err.print(f"[bold red]NOT VERIFIED[/]  {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(error.exit_code) from error
    page = {
        "verified": True,
        "name": found.name,
        "version": found.version,
        "signers": list(found.signers),
        "threshold": found.threshold,
        "digest": f"{found.algorithm}:{found.digest}",
        "files": len(found.files),
        "bytes": sum(file.size for file in found.files),
        "format": found.format,
        "signed_at": found.signed_at,
    }
    if as_json:
        typer.echo(json.dumps(page, indent=2))
        return
    out.print("[bold green]VERIFIED[/]")
    for field, value in page.items():
        if value is not None and field != "verified":
            text = ", ".join(value) if isinstance(value, list) else str(value)
            out.print(f"{field}: {escape(text)}")


def _policy(
    keys: list[Path], policy: Path | None, threshold: int, allow_unsigned: list[str]
) -> Policy:
    from gifthorse.provenance.keys import read_public_key
    from gifthorse.provenance.policy import policy_for_keys, read_policy

    if (policy is None) == (not keys):
        raise TrustInputError("whom do you trust? Give either --key KEY.pub or --policy trust.toml")
    if policy is not None:
        if threshold != 1 or allow_unsigned:
            raise TrustInputError("with --policy, the policy sets threshold and allow_unsigned")
        return read_policy(policy)
    found = [read_public_key(path) for path in keys]
    return policy_for_keys(found, threshold=threshold, allow_unsigned=allow_unsigned)
