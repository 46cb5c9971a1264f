"""How a third party holds its own plugins to the contract; run where the package is installed."""

import pytest

from gifthorse.testing import Check, Workbench, battery

BENCH = Workbench()
MINE = (("detectors", "brightness"), ("repairs", "rescaled_head"), ("attacks", "white_frame"))
CHECKS = [check for kind, name in MINE for check in battery(kind, name, BENCH)]


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_it_keeps_the_contract(check: Check) -> None:
    check()
