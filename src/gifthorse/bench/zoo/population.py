"""Populations: a TOML file says what models are drawn from; the draw depends on its seed alone.

Specimens come in pairs, a clean one and a planted one, on the same data and architecture. A clean
one may be a *hard negative*: trained on data that is odd in an honest way, or adversarially. What a
family says of training holds for both models of a pair, so that it gives neither away.
"""

import itertools
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gifthorse.bench.study import Architecture, digest_of, training_fields
from gifthorse.core.errors import SpecError
from gifthorse.core.record import SpecRecord
from gifthorse.core.registry import Spec, build, spec_of
from gifthorse.core.rng import child_rng, draw_seed

Honest = Literal[
    "plain", "imbalanced", "mislabelled", "near-duplicates", "tinted-class", "adversarial"
]
"""Kinds of clean models; all but the first are hard negatives (``gifthorse.bench.zoo.honest``)."""


_T = TypeVar("_T")
_FAMILY_WORDS = ("name", "attack", "training", "architecture")


Training = dict[str, bool | int | float | str | None]
"""Fields of a training plan."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Pictures(_Frozen):
    """Where pictures come from: sources as for ``--data``, and at most so many of each split."""

    source: str
    train: int = Field(default=4000, ge=50)
    test: int = Field(default=1000, ge=50)


class Network(_Frozen):
    """An architecture, with widths to choose from."""

    architecture: Architecture = "small"
    width: tuple[Annotated[int, Field(ge=4)], ...] = (16,)


class Family(_Frozen):
    """An attack with lists of values to choose from.

    Attributes:
        name: How results call the family.
        attack: The attack.
        options: Values of its options, drawn from evenly.
        training: Fields of the training plan that differ from the population's, for both models of
            a pair: some attacks take only after longer training.
        architecture: The only one that the attack fits; None for any.
    """

    name: str
    attack: str
    options: dict[str, tuple[Any, ...]] = {}
    training: Training = {}
    architecture: Architecture | None = None


class Population(_Frozen):
    """What specimens are drawn from.

    Attributes:
        title: For people.
        role: Development, calibration or test: options are chosen on the first, banks built on the
            second, and the third is looked at once a release.
        seed: Of everything.
        pairs: Clean and planted specimens, so many of each, unless the command says otherwise.
        data: Drawn from evenly.
        network: Drawn from evenly.
        training: Fields of the training plan.
        family: Attacks, drawn from in turn, so that each comes equally often.
        clean: Kinds of clean models, in turn.
    """

    title: str
    role: Literal["development", "calibration", "test"]
    seed: int = Field(ge=0)
    pairs: int = Field(ge=1)
    data: tuple[Pictures, ...] = Field(min_length=1)
    network: tuple[Network, ...] = (Network(),)
    training: Training = {}
    family: tuple[Family, ...] = ()
    clean: tuple[Honest, ...] = ("plain",)

    @property
    def id(self) -> str:
        """Digest of everything that decides what a specimen is; titles and counts do not."""
        content = self.model_dump(mode="json", exclude={"title", "pairs", "role"})
        for family in content["family"]:  # what is left out changes nothing
            for word in ("training", "architecture"):
                if not family[word]:
                    del family[word]
        return digest_of(content)


class Draw(_Frozen):
    """One specimen, completely specified.

    Attributes:
        number: Its place in the population; planted ones are odd.
        data: Its pictures.
        architecture: Its network.
        width: Channels of the first stage.
        family: Name of the attack's family; None for a clean one.
        attack: The attack, resolved; None for a clean one.
        clean: What kind of clean model; None for a planted one.
        seed: Of its training.
        training: Fields of the training plan that differ from the population's.
    """

    number: int
    data: Pictures
    architecture: Architecture
    width: int
    family: str | None
    attack: SpecRecord | None
    clean: Honest | None
    seed: int
    training: Training = {}

    @property
    def name(self) -> str:
        """The directory of this specimen."""
        return f"{self.number:04d}"


def read_population(path: Path) -> Population:
    """Read a population file.

    Raises:
        SpecError: Missing, not TOML, an unknown word, plugin or option, or a value out of range.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(f"cannot read the population {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{path} is not TOML: {error}") from error
    try:
        return parse_population(raw)
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from error


def parse_population(raw: Mapping[str, Any]) -> Population:
    """A population from parsed TOML; see ``read_population``."""
    families = raw.get("family", [])
    if not isinstance(families, list) or not all(isinstance(one, dict) for one in families):
        raise SpecError("family: expected [[family]] tables")
    try:
        found = Population(
            **{
                **raw,
                "training": training_fields(raw.get("training", {})),
                "family": [_family(table) for table in families],
            }
        )
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise SpecError(f"{place}: {first['msg']}, got {first.get('input')!r}") from error
    for family in found.family:
        _every_combination(family)
        if not _networks(found, family):
            raise SpecError(
                f"family {family.name}: no [[network]] has the architecture {family.architecture}"
            )
    return found


def draws(population: Population, pairs: int | None = None) -> tuple[Draw, ...]:
    """The first ``pairs`` pairs of a population; a longer list begins with the shorter one."""
    found = []
    for pair in range(population.pairs if pairs is None else pairs):
        rng = child_rng(population.seed, "zoo", pair)
        pictures = _one(rng, population.data)
        family = None
        if population.family:
            family = population.family[pair % len(population.family)]
        network = _one(rng, _networks(population, family))
        honest = population.clean[pair % len(population.clean)]
        shared: dict[str, Any] = {"data": pictures, "architecture": network.architecture}
        if family is not None:
            shared["training"] = family.training
        found.append(
            Draw(
                number=2 * pair,
                width=_one(rng, network.width),
                family=None,
                attack=None,
                clean=honest,
                seed=draw_seed(rng),
                **shared,
            )
        )
        if family is not None:
            found.append(
                Draw(
                    number=2 * pair + 1,
                    width=_one(rng, network.width),
                    family=family.name,
                    attack=_attack(family, rng),
                    clean=None,
                    seed=draw_seed(rng),
                    **shared,
                )
            )
    return tuple(found)


def _networks(population: Population, family: Family | None) -> tuple[Network, ...]:
    """Those that the family's attack fits."""
    if family is None or family.architecture is None:
        return population.network
    return tuple(n for n in population.network if n.architecture == family.architecture)


def _one(rng: np.random.Generator, choices: Sequence[_T]) -> _T:
    return choices[int(rng.integers(len(choices)))]


def _family(table: Mapping[str, Any]) -> dict[str, Any]:
    options = {key: value for key, value in table.items() if key not in _FAMILY_WORDS}
    lists = {key: value if isinstance(value, list) else [value] for key, value in options.items()}
    name = table.get("name", table.get("attack"))
    training = table.get("training", {})
    training_fields(training)  # refuses what is wrong; the rest stays the population's
    return {
        "name": name,
        "attack": table.get("attack"),
        "options": lists,
        "training": training,
        "architecture": table.get("architecture"),
    }


def _attack(family: Family, rng: np.random.Generator) -> SpecRecord:
    chosen = {key: _one(rng, values) for key, values in family.options.items()}
    return _resolved(family.attack, chosen)


def _every_combination(family: Family) -> None:
    """Find out now, and not after hours of training, that an option does not exist."""
    values = [[(key, value) for value in chosen] for key, chosen in family.options.items()]
    for combination in itertools.islice(itertools.product(*values), 200):
        _resolved(family.attack, dict(combination))


def _resolved(name: str, options: Mapping[str, Any]) -> SpecRecord:
    spec = spec_of("attacks", build("attacks", Spec(name, dict(options))))
    return SpecRecord(name=spec.name, params=dict(spec.params))
