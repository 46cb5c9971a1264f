"""Asks picklescan about the same bytes."""

import io
import logging

from gifthorse.provenance.files.issues import Report, Standing
from gifthorse.provenance.files.source import Source

_MOST_BYTES = 32 << 20


def ask_picklescan(source: Source, start: int, end: int, report: Report) -> None:
    """Report what picklescan calls dangerous in the pickles from ``start`` to ``end``.

    Its other grades are not used: our own walk grades every import more strictly.
    """
    from picklescan.scanner import SafetyLevel, scan_pickle_bytes

    if end - start > _MOST_BYTES:
        text = f"picklescan was not asked: the pickle has {end - start:,} bytes"
        report.add("second-opinion", Standing.NOTE, text)
        return
    data = source.read_at(start, end - start)
    logger = logging.getLogger("picklescan")
    before, logger.disabled = logger.disabled, True  # it logs what it finds; we report it
    try:
        result = scan_pickle_bytes(io.BytesIO(data), report.member or "pickle")
    # Another's parser on hostile bytes can fail in any way; our own walk does not depend on it.
    except Exception as error:  # noqa: BLE001
        text = f"picklescan failed: {type(error).__name__}"
        report.add("second-opinion", Standing.NOTE, text)
        return
    finally:
        logger.disabled = before
    for found in result.globals:
        if found.safety == SafetyLevel.Dangerous:
            report.add(
                "second-opinion",
                Standing.DANGEROUS,
                f"picklescan calls {found.module}.{found.name} dangerous",
            )
