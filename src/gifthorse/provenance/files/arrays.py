"""Array bytes that formats write around or between pickles: how many follow."""

import math
import re
from typing import Any

from gifthorse.provenance.files.machine import Facts, Import, Made, Table
from gifthorse.provenance.files.source import BrokenError, Cursor

_WRAPPER_KEYS = frozenset(
    {"subclass", "shape", "order", "dtype", "allow_mmap", "numpy_array_alignment_bytes"}
)
_STORAGE_BYTES = {
    "BFloat16": 2, "Bool": 1, "Byte": 1, "Char": 1, "ComplexDouble": 16, "ComplexFloat": 8,
    "Double": 8, "Float": 4, "Half": 2, "Int": 4, "Long": 8, "QInt32": 4, "QInt8": 1,
    "QUInt2x4": 1, "QUInt4x2": 1, "QUInt8": 1, "Short": 2, "Untyped": 1,
}  # fmt: skip


def item_bytes(code: object) -> int | None:
    """Bytes of one item of a numpy type such as ``<f4``; -1 for Python objects, None if unknown."""
    found = re.fullmatch(r"[<>=|]?([?bBhHiIlLqQefdgFDGSUVMmOucaT])(\d*)(\[.*\])?", str(code))
    if not isinstance(code, str) or found is None or len(found[2]) > 9:
        return None
    kind, digits = found[1], found[2]
    if kind == "O":
        return -1
    if kind == "U":
        return 4 * int(digits or 0)
    if digits:
        return int(digits)
    sizes = {"?": 1, "b": 1, "B": 1, "h": 2, "H": 2, "e": 2, "i": 4, "I": 4, "f": 4}
    return sizes.get(kind, 8 if kind in "lLqQdMm" else None)


def product(shape: object) -> int | None:
    """Number of items of a shape, or None if it is none."""
    if not isinstance(shape, tuple) or not all(
        isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in shape
    ):
        return None
    return math.prod(shape)


def skip_joblib_array(cursor: Cursor, made: Made) -> bool:
    """Pass over the array that joblib writes behind a wrapper; False if pickled objects follow.

    Raises:
        BrokenError: The wrapper does not say how long the array is.
        TruncatedError: The array is shorter than it says.
    """
    state = made.state.items if isinstance(made.state, Table) else {}
    if not state.keys() <= _WRAPPER_KEYS:
        raise BrokenError("an array wrapper that is not as joblib writes it")
    size, count = _dtype_bytes(state.get("dtype")), product(state.get("shape"))
    if size is None or count is None:
        raise BrokenError("an array of unknown length within the pickle")
    if size < 0:
        return False
    if state.get("numpy_array_alignment_bytes") is not None:
        cursor.skip(cursor.read(1)[0])
    cursor.skip(size * count)
    return True


def _dtype_bytes(dtype: object) -> int | None:
    """Bytes of one item of a pickled ``numpy.dtype``, if its state leaves no doubt."""
    if not (isinstance(dtype, Made) and isinstance(dtype.callee, Import) and dtype.arguments):
        return None
    if (dtype.callee.module, dtype.callee.name) != ("numpy", "dtype"):
        return None
    size = item_bytes(dtype.arguments[0])
    state = dtype.state if dtype.state is not None else (0, "|", None, None, None, -1)
    # Parts of an array, fields, or another size would make the real array longer or shorter.
    plain = isinstance(state, tuple) and len(state) >= 6 and state[2:5] == (None, None, None)
    return size if plain and state[5] in (-1, size) else None


def is_joblib_wrapper(made: Made) -> bool:
    """Whether this object announces an array of joblib."""
    return isinstance(made.callee, Import) and made.callee.name == "NumpyArrayWrapper"


def legacy_storage_bytes(facts: Facts) -> int | None:
    """Bytes of the tensors that follow the pickles of a legacy ``.pt``; None if not known.

    Every storage is its number of items (8 bytes) and the items.
    """
    sizes: dict[Any, int] = {}
    for found in facts.persistent:
        if not (isinstance(found, tuple) and len(found) >= 5 and found[0] == "storage"):
            return None
        kind, key, count = found[1], found[2], found[4]
        name = str(kind.name).removesuffix("Storage") if isinstance(kind, Import) else ""
        if name not in _STORAGE_BYTES or not isinstance(count, int) or not isinstance(key, str):
            return None
        sizes[key] = 8 + _STORAGE_BYTES[name] * count
    return None if facts.limited else sum(sizes.values())
