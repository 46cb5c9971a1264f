"""Studies: a TOML file that spans a grid of trials."""

import difflib
import tomllib
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gifthorse.core.errors import SpecError
from gifthorse.core.rounds_record import TrialSpec
from gifthorse.federated.hostile import kinds
from gifthorse.federated.rounds import methods

_GRID = ("attack", "defence", "alpha", "seed", "backdoor")


class Study(BaseModel):
    """A grid: every defence under every attack, for every split and seed.

    Attributes:
        name: Of the study.
        defences: Aggregators, with options as ``name:option=value``.
        attacks: ``none``, or client attacks with options; ``@tail`` behind one gives it inputs
            from the tail instead of a patch.
        alphas: Concentrations of the Dirichlet split; 0 for IID.
        seeds: One trial each.
        trial: What all trials have in common: the other fields of ``TrialSpec``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=100)
    defences: tuple[str, ...] = Field(min_length=1)
    attacks: tuple[str, ...] = Field(min_length=1)
    alphas: tuple[float, ...] = Field(default=(0.5,), min_length=1)
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    trial: dict[str, Any]

    def trials(self) -> tuple[TrialSpec, ...]:
        """All trials, in a fixed order.

        Raises:
            SpecError: A setting is unknown or of the wrong kind, or a method does not exist.
        """
        found: dict[str, TrialSpec] = {}
        for seed, alpha, attack, defence in product(
            self.seeds, self.alphas, self.attacks, self.defences
        ):
            name, _, backdoor = attack.partition("@")
            settings = {
                **self.trial,
                "attack": name,
                "backdoor": backdoor or "patch",
                "defence": defence,
                "alpha": alpha,
                "seed": seed,
            }
            try:
                spec = TrialSpec.model_validate(settings)
            except ValidationError as error:
                raise SpecError(f"study {self.name!r}: {_first(error)}") from error
            found[spec.key()] = spec
        for spec in found.values():
            methods(spec)
            kinds(spec.hostile)
        return tuple(found.values())


def read_study(path: Path) -> Study:
    """Read a study file.

    Raises:
        SpecError: Missing, not TOML, or not a study.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(f"cannot read the study {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(f"{path} is not TOML: {error}") from error
    trial = table.get("trial", {})
    if isinstance(trial, dict):
        for key in trial:
            if key in _GRID:
                raise SpecError(f"{path}: trial.{key} belongs to the grid, outside of [trial]")
            if key not in TrialSpec.model_fields:
                near = difflib.get_close_matches(key, TrialSpec.model_fields, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise SpecError(f"{path}: a trial has no setting {key!r}{hint}")
    try:
        return Study.model_validate(table)
    except ValidationError as error:
        raise SpecError(f"{path} is not a study: {_first(error)}") from error


def _first(error: ValidationError) -> str:
    fault = error.errors()[0]
    return f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
