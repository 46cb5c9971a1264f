"""The state of a server between two rounds, in one NumPy file without Python objects."""

import io
import os
import secrets
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gifthorse.core.errors import RecordError
from gifthorse.core.types import ScoreArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a server needs to go on.

    Attributes:
        round: The last one that is done.
        arrays: The global model, buffers included.
        memory: Of the defence.
        seen: Digests of the replies that were admitted.
    """

    round: int
    arrays: Mapping[str, NDArray[Any]]
    memory: Mapping[str, ScoreArray]
    seen: frozenset[str]


def write_checkpoint(place: Path, state: Checkpoint) -> None:
    """Write a file whole, or leave the last one as it is.

    Raises:
        RecordError: It cannot be written.
    """
    content: dict[str, NDArray[Any]] = {
        "round": np.array(state.round, dtype=np.int64),
        "seen": np.array(sorted(state.seen), dtype="S64"),
        **{f"array/{name}": value for name, value in state.arrays.items()},
        **{f"memory/{name}": value for name, value in state.memory.items()},
    }
    write_arrays(place, content, what="checkpoint")


def read_checkpoint(place: Path) -> Checkpoint:
    """Read what ``write_checkpoint`` wrote.

    Raises:
        RecordError: Missing, or not a checkpoint.
    """
    content = read_arrays(place, what="checkpoint")
    try:
        return Checkpoint(
            round=int(content["round"]),
            arrays=under(content, "array/"),
            memory=under(content, "memory/"),
            seen=frozenset(mark.decode("ascii") for mark in content["seen"].tolist()),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordError(
            f"{place} is not a checkpoint ({error}); move it away to start from round 1"
        ) from error


def write_arrays(place: Path, content: Mapping[str, NDArray[Any]], *, what: str) -> None:
    """Write named arrays as one file, whole, or leave the last one as it is.

    Args:
        place: The file.
        content: Arrays by name; any name will do.
        what: What it is, for messages.

    Raises:
        RecordError: It cannot be written.
    """
    scratch = place.with_name(f".{place.name}.{secrets.token_hex(8)}.tmp")
    try:
        with scratch.open("xb") as file:
            # Not as keyword arguments: a client's name could be "file".
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                for name, value in content.items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                        np.lib.format.write_array(member, value, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(place)
    except OSError as error:
        raise RecordError(f"cannot write the {what} {place}: {error.strerror}") from error
    finally:
        scratch.unlink(missing_ok=True)


def read_arrays(place: Path, *, what: str) -> dict[str, NDArray[Any]]:
    """Read what ``write_arrays`` wrote; Python objects are refused.

    Raises:
        RecordError: Missing, or another file.
    """
    try:
        with np.load(io.BytesIO(place.read_bytes()), allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except EOFError as error:
        raise RecordError(f"{place} is an empty file and not a {what}") from error
    except OSError as error:
        raise RecordError(f"cannot read the {what} {place}: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise RecordError(
            f"{place} is not a {what} ({error}); move it away to start from round 1"
        ) from error


def under(content: Mapping[str, NDArray[Any]], start: str) -> dict[str, NDArray[Any]]:
    """Entries whose names start so, without that."""
    return {n.removeprefix(start): value for n, value in content.items() if n.startswith(start)}
