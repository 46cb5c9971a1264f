"""Where signatures lie, and how such files are read and written."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from gifthorse.core.errors import TrustError, TrustInputError
from gifthorse.provenance.envelope import MAX_BYTES

SIGNATURE_NAME = "gifthorse.sig"
BUNDLE_NAME = "model.sig"  # what the model_signing command calls it


def default_signature(path: Path) -> Path:
    """Where a signature is written: inside a directory, or beside a file."""
    return path / SIGNATURE_NAME if path.is_dir() else path.with_name(f"{path.name}.sig")


def bundle_place(path: Path) -> Path:
    """Where a bundle of OpenSSF Model Signing is written: inside a directory, or beside a file."""
    return path / BUNDLE_NAME if path.is_dir() else default_signature(path)


def present_signature(path: Path) -> Path:
    """Where the signature is: our own, or else a bundle of OpenSSF Model Signing."""
    ours, bundle = default_signature(path), bundle_place(path)
    return bundle if bundle.exists() and not ours.exists() else ours


def is_below(name: str, places: Sequence[str]) -> bool:
    """Whether a file is one of these files, or lies in one of these directories."""
    return any(name == p.rstrip("/") or name.startswith(p.rstrip("/") + "/") for p in places)


def own_name(path: Path, signature: Path) -> tuple[str, ...]:
    """The signature's own name below ``path``; nothing if it lies elsewhere."""
    # Path.resolve raises a RuntimeError where links go round in a circle.
    place, root = Path(os.path.realpath(signature)), Path(os.path.realpath(path))
    return (place.relative_to(root).as_posix(),) if root in place.parents else ()


def read_signature(path: Path) -> bytes:
    """The bytes of a signature file.

    Raises:
        TrustError: Missing, unreadable or too large.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise TrustError(f"there is no signature {path}: nothing shows who made this") from error
    except (OSError, ValueError) as error:
        raise TrustError(f"cannot read the signature {path}: {error}") from error
    if len(data) > MAX_BYTES:
        raise TrustError(f"the signature {path} is larger than {MAX_BYTES >> 20} MiB")
    return data


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file that appears whole or not at all.

    Raises:
        TrustInputError: It cannot be written.
    """
    try:
        descriptor, scratch = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            Path(scratch).chmod(0o644)
            Path(scratch).replace(path)
        except BaseException:
            Path(scratch).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise TrustInputError(f"cannot write {path}: {error.strerror}") from error
