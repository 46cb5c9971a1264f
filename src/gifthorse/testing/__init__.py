"""The contract that every plugin keeps, as a battery that anybody can run on their own.

    import pytest
    from gifthorse.testing import Workbench, battery

    BENCH = Workbench()

    @pytest.mark.parametrize("check", battery("detectors", "brightness", BENCH), ids=str)
    def test_contract(check):
        check()

No test framework is needed: a check is called, and raises ``BrokenContractError`` if the plugin
does not keep that rule. Our own plugins pass the same battery (tests/contracts/test_battery.py).
"""

from gifthorse.testing.battery import Check, battery
from gifthorse.testing.rules import BrokenContractError
from gifthorse.testing.workbench import Workbench

__all__ = ["BrokenContractError", "Check", "Workbench", "battery"]
