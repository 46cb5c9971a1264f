"""Studies: a TOML file becomes frozen values, and their product becomes a grid of trials.

A trial's id is the digest of its resolved specification: defaults filled in, the source of its
methods, and the versions of the packages that can change a result. Adding an attack or a seed to a
study therefore leaves the other trials, and what a ledger holds of them, as they are.
"""

import difflib
import hashlib
import itertools
import json
import tomllib
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gifthorse.bench.sources import source_digest
from gifthorse.core.errors import SpecError
from gifthorse.core.record import SpecRecord, versions
from gifthorse.core.registry import Spec, build, plugin_class, spec_of
from gifthorse.core.types import Need, Unit

Role = Literal["none", "detector", "repair"]
On = Literal["model", "data", "inputs"]
Architecture = Literal["small", "bottleneck", "preact-resnet18"]

_GROUPS = {"attack": "attacks", "detector": "detectors", "repair": "repairs"}
_OWN_WORDS = {"attack": {"name"}, "detector": {"name", "on"}, "repair": {"name", "evidence"}}
_NOT_RESULTS = {"python"}
"""A patch release of the interpreter changes no result; it stands in the circumstances."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataPlan(_Frozen):
    """Which pictures, and who gets them.

    Attributes:
        source: As for ``--data``: ``signs:4000``, ``cifar10``, ``npz:FILE`` …
        test: Where the test pictures come from, if not from ``source``.
        content: Digest of files that a path names; empty for data sets known by name.
        trusted: Pictures of the test split that the defender holds; all others measure.
        probe: How many of those a detector gets.
        measured: Use at most so many of the others to measure on; 0 for all.
        inputs: Pictures shown to detectors of inputs, a tenth of them with the trigger.
    """

    source: str = "signs"
    test: str = ""
    content: str = ""
    trusted: int = Field(default=500, ge=8)
    probe: int = Field(default=200, ge=8)
    measured: int = Field(default=0, ge=0)
    inputs: int = Field(default=500, ge=20)


class ModelPlan(_Frozen):
    """Which network is trained: a small ResNet of ours, or BackdoorBench's PreAct-ResNet18."""

    architecture: Architecture = "small"
    width: int = Field(default=32, ge=4)


class Resources(_Frozen):
    """What one trial is given: processor cores (also torch threads) and GPUs. Not in its id."""

    cpus: int = Field(default=1, ge=1)
    gpus: float = Field(default=0, ge=0)


class Trial(_Frozen):
    """One cell of the grid, completely specified.

    Attributes:
        data: Pictures.
        model: Network.
        training: Every field of the training plan.
        seed: Of all randomness.
        attack: What is planted; None for the clean twin.
        role: ``none`` measures the model as it is.
        defence: The detector or repair.
        on: What a detector is shown: the model, its training data, or inputs.
        evidence: The detector whose finding a repair is given.
        false_alarm_rate: At which a detector is judged, in (0, 1).
        allowed_drop: Accuracy that a repair may cost before the audit would refuse it, in [0, 1].
        versions: Packages that can change a result.
        sources: Digest of the source of ``attack``, ``defence`` and ``evidence``. Empty in ledgers
            of earlier releases, whose ids do not cover it.
    """

    data: DataPlan
    model: ModelPlan
    training: dict[str, bool | int | float | str | None]
    seed: int
    attack: SpecRecord | None
    role: Role
    defence: SpecRecord | None = None
    on: On | None = None
    evidence: SpecRecord | None = None
    false_alarm_rate: float = 0.05
    allowed_drop: float = 0.02
    versions: dict[str, str]
    sources: dict[str, str] = {}

    @property
    def id(self) -> str:
        """64 hexadecimal digits."""
        return digest_of(self._without_empty_sources(self.model_dump(mode="json")))

    @property
    def planted_id(self) -> str:
        """Digest of what was planted: shared by all defences that judge the same model."""
        kept = {"data", "model", "training", "seed", "attack", "versions"}
        planted = self.model_dump(mode="json", include=kept)
        known = {} if self.attack is None else self.sources  # a twin knows no attack
        planted["sources"] = {k: v for k, v in known.items() if k == "attack"}
        return digest_of(self._without_empty_sources(planted))

    @property
    def cell_id(self) -> str:
        """Digest of everything but the source: what two states of a method have in common."""
        return digest_of(self.model_dump(mode="json", exclude={"sources"}))

    @staticmethod
    def _without_empty_sources(values: dict[str, Any]) -> dict[str, Any]:
        """As trials were digested before they had sources."""
        return {k: v for k, v in values.items() if k != "sources" or v}

    def methods(self) -> dict[str, tuple[str, str]]:
        """Kind and name of the methods that a trial uses, by the keys of ``sources``."""
        kind = "detectors" if self.role == "detector" else "repairs"
        named = {
            "attack": ("attacks", self.attack),
            "defence": (kind, self.defence),
            "evidence": ("detectors", self.evidence),
        }
        return {part: (group, s.name) for part, (group, s) in named.items() if s is not None}

    def after(self) -> tuple["Trial", ...]:
        """The trials that must be done before this one."""
        bare = {"role": "none", "defence": None, "on": None, "evidence": None}
        before = []
        if self.attack is not None:
            before.append(self.model_copy(update={**bare, "attack": None, "sources": {}}))
        planted = {k: v for k, v in self.sources.items() if k == "attack"}
        if self.role != "none":
            before.append(self.model_copy(update={**bare, "sources": planted}))
        if self.evidence is not None:
            seen = {"role": "detector", "defence": self.evidence, "on": "model"}
            if "evidence" in self.sources:
                planted = {**planted, "defence": self.sources["evidence"]}
            before.append(self.model_copy(update={**bare, **seen, "sources": planted}))
        return tuple(before)


class Study(_Frozen):
    """A study as it was read: the grid is the product of its lists."""

    title: str
    note: str = ""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1)
    data: DataPlan = DataPlan()
    model: ModelPlan = ModelPlan()
    training: dict[str, bool | int | float | str | None] = {}
    resources: Resources = Resources()
    false_alarm_rate: float = Field(default=0.05, gt=0, lt=1)
    allowed_drop: float = Field(default=0.02, ge=0, le=1)
    attacks: tuple[SpecRecord, ...]
    detectors: tuple[tuple[SpecRecord, On], ...] = ()
    repairs: tuple[tuple[SpecRecord, SpecRecord | None], ...] = ()

    @property
    def id(self) -> str:
        """64 hexadecimal digits, over everything that was read."""
        return digest_of(self.model_dump(mode="json"))


def digest_of(value: Any) -> str:
    """SHA-256 over canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_study(path: Path) -> Study:
    """Read a study file.

    Raises:
        SpecError: Missing, not TOML, an unknown word, plugin or option, or a value out of range.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(f"cannot read the study {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{path} is not TOML: {error}") from error
    try:
        return parse_study(raw)
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from error


def parse_study(raw: Mapping[str, Any]) -> Study:
    """A study from parsed TOML; see ``read_study``."""
    known = {*Study.model_fields, *_GROUPS} - {"attacks", "detectors", "repairs"}
    for word in raw:
        if word not in known:
            raise SpecError(f"a study has no {word!r}; {_near(word, known)}")
    tables = {kind: _tables(raw, kind) for kind in _GROUPS}
    detectors = [
        (spec, _on(table, spec))
        for table in tables["detector"]
        for spec in _specs("detector", table)
    ]
    heard = {spec.name: spec for spec, on in detectors if on == "model"}
    repairs = [
        (spec, _evidence(table, heard))
        for table in tables["repair"]
        for spec in _specs("repair", table)
    ]
    rest = {key: value for key, value in raw.items() if key not in _GROUPS}
    try:
        study = Study(
            **{
                **rest,
                "training": training_fields(rest.get("training", {})),
                "attacks": [spec for table in tables["attack"] for spec in _specs("attack", table)],
                "detectors": detectors,
                "repairs": repairs,
            }
        )
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise SpecError(f"{place}: {first['msg']}, got {first.get('input')!r}") from error
    return study.model_copy(update={"data": _pinned(study.data)})


def grid(study: Study) -> tuple[Trial, ...]:
    """All trials, each after those that it needs, without duplicates."""
    found: dict[str, Trial] = {}
    installed = _versions()
    for seed, attack in itertools.product(study.seeds, (None, *study.attacks)):
        bare = Trial(
            data=study.data,
            model=study.model,
            training=study.training,
            seed=seed,
            attack=attack,
            role="none",
            false_alarm_rate=study.false_alarm_rate,
            allowed_drop=study.allowed_drop,
            versions=installed,
        )
        cells = [bare]
        for spec, on in study.detectors:
            cells.append(bare.model_copy(update={"role": "detector", "defence": spec, "on": on}))
        for spec, evidence in study.repairs:
            repair = {"role": "repair", "defence": spec, "evidence": evidence}
            cells.append(bare.model_copy(update=repair))
        cells = [cell.model_copy(update={"sources": _sources(cell)}) for cell in cells]
        found |= {trial.id: trial for trial in cells}
    return tuple(found.values())


def shown(spec: SpecRecord) -> On:
    """What a detector judges unless the study says otherwise, from what it needs."""
    cls = plugin_class("detectors", spec.name)
    if Need.FEATURES in cls.needs:
        return "data"
    if cls.unit is Unit.SAMPLE or Need.SUSPECT_DATA in cls.needs:
        return "inputs"
    return "model"


def _sources(trial: Trial) -> dict[str, str]:
    """Of the methods that a trial names, as they are installed."""
    return {part: source_digest(kind, name) for part, (kind, name) in trial.methods().items()}


def _versions() -> dict[str, str]:
    found = {name: text for name, text in versions().items() if name not in _NOT_RESULTS}
    for kind in _GROUPS.values():
        for point in entry_points(group=f"gifthorse.{kind}"):
            if point.dist is not None and point.dist.name != "gifthorse":
                found[point.dist.name] = point.dist.version
    return found


def _tables(raw: Mapping[str, Any], kind: str) -> list[dict[str, Any]]:
    tables = raw.get(kind, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise SpecError(f"{kind}: expected [[{kind}]] tables")
    for table in tables:
        if not isinstance(table.get("name"), str):
            raise SpecError(f'{kind}: every [[{kind}]] needs a name, as in name = "…"')
    return tables


def _specs(kind: str, table: Mapping[str, Any]) -> list[SpecRecord]:
    """Every combination of the listed option values, each resolved with its defaults."""
    options = {key: value for key, value in table.items() if key not in _OWN_WORDS[kind]}
    lists = [value if isinstance(value, list) else [value] for value in options.values()]
    group, found = _GROUPS[kind], []
    for values in itertools.product(*lists):
        plugin = build(group, Spec(table["name"], dict(zip(options, values, strict=True))))
        spec = spec_of(group, plugin)
        found.append(SpecRecord(name=spec.name, params=dict(spec.params)))
    return found


def _on(table: Mapping[str, Any], spec: SpecRecord) -> On:
    wanted = table.get("on", shown(spec))
    if wanted not in ("model", "data", "inputs"):
        raise SpecError(f"{spec.name}: on must be model, data or inputs, got {wanted!r}")
    found: On = wanted
    return found


def _evidence(table: Mapping[str, Any], heard: Mapping[str, SpecRecord]) -> SpecRecord | None:
    wanted = table.get("evidence")
    if wanted is None:
        return None
    if wanted not in heard:
        raise SpecError(
            f"{table['name']}: evidence names {wanted!r}, which is no [[detector]] of models in "
            "this study"
        )
    return heard[wanted]


def training_fields(given: Any) -> dict[str, Any]:
    """Every field of the training plan, defaults filled in and values checked."""
    from dataclasses import fields

    from gifthorse.models.training import TrainingPlan

    if not isinstance(given, dict):
        raise SpecError("training: expected a [training] table")
    known = {field.name: field.default for field in fields(TrainingPlan)}
    for word, value in given.items():
        if word not in known:
            raise SpecError(f"training has no {word!r}; {_near(word, known)}")
        wanted = type(known[word])
        if type(value) is not wanted and not (wanted is float and type(value) is int):
            raise SpecError(f"training: {word} must be of type {wanted.__name__}, got {value!r}")
    try:
        TrainingPlan(**given)
    except ValueError as error:
        raise SpecError(f"training: {error}") from error
    return {**known, **given}


def _pinned(plan: DataPlan) -> DataPlan:
    """Files can change under their name, so their content goes into the id of every trial."""
    form = plan.source.partition(":")[0]
    if form in ("signs", "hf") or plan.source in ("fashion-mnist", "cifar10"):
        return plan
    from gifthorse.data.images import digest
    from gifthorse.data.sources import load

    parts = [digest(load(plan.source, split="train"))]
    parts.append(digest(load(plan.test or plan.source, split="test")))
    return plan.model_copy(update={"content": digest_of(parts)})


def _near(word: str, known: Mapping[str, Any] | Sequence[str] | set[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}known: {', '.join(sorted(known))}"
