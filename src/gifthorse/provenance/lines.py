"""Lines of large and perhaps hostile files, a block at a time."""

from collections.abc import Iterator
from typing import IO


def line_blocks(file: IO[bytes], *, longest: int, chunk: int = 2**18) -> Iterator[list[bytes]]:
    """The lines of a file without their ends, some thousands at a time.

    Args:
        file: Open for reading bytes.
        longest: Bytes that a line may have.
        chunk: Bytes that are read at once.

    Raises:
        ValueError: A line is too long.
    """
    rest, block = b"", b" "
    while block:
        block = file.read(chunk)
        lines = (rest + block).split(b"\n")
        # The last piece is a line that goes on, and at the end of the file nothing.
        rest = lines.pop() if block or lines[-1] == b"" else b""
        if len(rest) > longest:
            raise ValueError(f"a line is longer than {longest} bytes")
        if lines:
            yield lines
