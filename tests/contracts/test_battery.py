"""Every installed plugin passes the battery, whoever wrote it."""

import pytest

from gifthorse.core.registry import KINDS, names
from gifthorse.testing import Check, Workbench, battery

BENCH = Workbench()
CHECKS = [check for kind in KINDS for name in names(kind) for check in battery(kind, name, BENCH)]


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_it_keeps_the_contract(check: Check) -> None:
    check()
