"""Which rules hold for which kind of plugin (our own)."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

from gifthorse.core.registry import plugin_class
from gifthorse.testing.attacks import ATTACKS
from gifthorse.testing.defences import DETECTORS, REPAIRS
from gifthorse.testing.form import FORM
from gifthorse.testing.workbench import Workbench

_BEHAVIOUR: dict[str, tuple[Callable[[str, str, Workbench], None], ...]] = {
    "attacks": ATTACKS,
    "detectors": DETECTORS,
    "repairs": REPAIRS,
}


@dataclass(frozen=True, slots=True)
class Check:
    """One rule for one plugin.

    Attributes:
        kind: As in ``gifthorse.core.registry.KINDS``.
        name: Of the plugin.
        rule: What it must do, in words.
        run: Raises ``BrokenContractError`` if it does not.
    """

    kind: str
    name: str
    rule: str
    run: Callable[[], None]

    def __call__(self) -> None:
        """Hold the plugin to the rule.

        Raises:
            BrokenContractError: It does not keep it.
        """
        self.run()

    def __str__(self) -> str:
        return f"{self.kind}-{self.name}-{self.rule}"


def battery(kind: str, name: str, bench: Workbench) -> list[Check]:
    """Every check that an installed plugin has to pass.

    Args:
        kind: One of ``gifthorse.core.registry.KINDS``.
        name: As its entry point says.
        bench: What it is tried on; share one between plugins, since its model is trained once.

    Raises:
        SpecError: No such plugin.
        PluginError: It cannot be imported.
    """
    plugin_class(kind, name)
    checks = [
        Check(kind, name, rule.__name__, functools.partial(rule, kind, name)) for rule in FORM
    ]
    checks += [
        Check(kind, name, rule.__name__, functools.partial(rule, kind, name, bench))
        for rule in _BEHAVIOUR.get(kind, ())
    ]
    return checks
