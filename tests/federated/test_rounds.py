"""The round loop: the attack works, defences stop it, the clean twin stays whole, bits repeat."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from gifthorse.core.errors import DataError, RecordError, SpecError
from gifthorse.core.rounds_record import TrialSpec
from gifthorse.federated.hostile import HOSTILE
from gifthorse.federated.ledger import Ledger
from gifthorse.federated.partition import LEAST, partition
from gifthorse.federated.rounds import attackers_of, cohort, run_trial, twin
from gifthorse.federated.runner import run_study
from gifthorse.federated.study import Study, read_study
from gifthorse.federated.tables import rows

SMALL = TrialSpec(data="digits", rounds=12, window=(5, 9), learning_rate=0.3)


def small(**changes: object) -> TrialSpec:
    return TrialSpec.model_validate({**SMALL.model_dump(), **changes})


def test_model_replacement_owns_the_mean_and_not_multikrum() -> None:
    owned = run_trial(small(attack="model_replacement")).record
    kept = run_trial(small(attack="model_replacement", defence="multikrum")).record
    clean = run_trial(twin(small(attack="model_replacement"))).record
    assert owned.attack_success_end > 0.9
    assert kept.attack_success_peak < 0.1
    assert kept.rejected_malicious == 1.0
    assert clean.attack_success_peak < 0.1
    assert clean.rejected_malicious is None
    assert clean.clean_accuracy > 0.85
    assert kept.clean_accuracy > clean.clean_accuracy - 0.05


def test_explained_keeps_a_backdoor_out_and_rare_classes_in() -> None:
    spec = small(rounds=20, window=(8, 14), alpha=0.1, attack="train_and_scale")
    defended = small(**{**spec.model_dump(), "defence": "explained"})
    owned, kept = run_trial(spec).record, run_trial(defended).record
    clean, quiet = run_trial(twin(spec)).record, run_trial(twin(defended)).record
    assert owned.attack_success_end > 0.5
    assert kept.attack_success_peak < 0.05
    assert quiet.attack_success_peak < 0.05
    assert min(kept.clean_accuracy, quiet.clean_accuracy) > clean.clean_accuracy - 0.02


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    spec = small(attack="neurotoxin", defence="flame", rounds=6, window=(2, 4))
    one, same = run_trial(spec).record, run_trial(spec).record
    other = run_trial(small(**{**spec.model_dump(), "seed": 1})).record
    assert one.digest == same.digest
    assert one.rounds == same.rounds
    assert one.digest != other.digest


def test_every_round_completes_whatever_is_sent() -> None:
    record = run_trial(small(hostile=("all",), rounds=5, window=(2, 4))).record
    assert len(record.rounds) == 5
    for entry in record.rounds[1:]:
        reasons = {q.client: q.reason for q in entry.quarantined}
        for kind, (_, reason) in HOSTILE.items():
            name = "nobody-asked" if kind == "unknown-client" else f"hostile-{kind}"
            if reason is None:
                assert name in entry.missing
            else:
                assert reasons[name] == reason
    quiet = run_trial(small(rounds=5, window=(2, 4))).record
    assert all(entry.quarantined == () for entry in quiet.rounds)


def test_a_record_says_who_contributed_to_which_model() -> None:
    record = run_trial(small(defence="krum", rounds=3, window=(1, 2))).record
    for entry in record.rounds:
        assert len(entry.accepted) == 1
        assert set(entry.accepted) | set(entry.rejected) == set(entry.replies)
    assert len({entry.model for entry in record.rounds}) == 3


def test_updates_are_kept_when_asked_for() -> None:
    result = run_trial(small(rounds=3, window=(1, 2)), keep_updates=True)
    assert [len(one.clients) for one in result.stored] == [20, 20, 20]
    rebuilt = result.initial.copy()
    for one in result.stored:
        rebuilt = (rebuilt + one.deltas.mean(axis=0)).astype(np.float32).astype(np.float64)
    np.testing.assert_allclose(rebuilt, result.model, atol=1e-5)


def test_attackers_come_as_the_study_says() -> None:
    fixed = small(per_round=10)
    often = small(per_round=10, pool="frequency", every=2)
    assert all(len(cohort(fixed, r)) == 10 for r in range(12))
    bad = [len(set(cohort(often, r)) & set(attackers_of(often, 5))) for r in range(12)]
    assert bad == [0, 0, 0, 0, 0, 4, 0, 4, 0, 0, 0, 0]
    assert attackers_of(fixed, 4) == ()


@pytest.mark.parametrize("alpha", [0, 0.1, 0.5, 100])
def test_a_split_is_complete_and_disjoint(alpha: float) -> None:
    labels = np.random.default_rng(0).integers(0, 10, 700)
    parts = partition(labels, 20, alpha, np.random.default_rng(1))
    assert sorted(np.concatenate(parts).tolist()) == list(range(700))
    assert min(map(len, parts)) >= LEAST


def test_a_small_alpha_gives_clients_few_classes() -> None:
    labels = np.random.default_rng(0).integers(0, 10, 2000)
    share = {}
    for alpha in (0.0, 0.1):
        parts = partition(labels, 20, alpha, np.random.default_rng(1))
        share[alpha] = np.mean([np.bincount(labels[p]).max() / len(p) for p in parts])
    assert share[0.0] < 0.3 < 0.5 < share[0.1]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"target": 10}, "two classes below 10"),
        ({"per_round": 21}, "per_round"),
        ({"attackers": 21}, "attackers"),
        ({"window": (5, 13)}, "window"),
        ({"window": (5, 5)}, "window"),
        ({"alpha": -1}, "alpha"),
        ({"rounds": 0}, "rounds"),
        ({"pool": "frequency"}, "fill a round"),
        ({"trigger_size": 9}, "does not fit"),
        ({"trigger_place": "random"}, "fixed place"),
        ({"learning_rate": 0}, "positive"),
        ({"defence": "crumb"}, "did you mean"),
        ({"attack": "dba:parts=0"}, "parts"),
        ({"hostile": ("rude",)}, "no hostile reply"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, object], text: str) -> None:
    with pytest.raises(SpecError, match=text):
        run_trial(small(**changes))


def test_too_little_data_is_refused() -> None:
    with pytest.raises(DataError, match="too few"):
        run_trial(small(clients=400))
    with pytest.raises(DataError, match="leave none"):
        run_trial(small(trusted=5000))


# ---------------------------------------------------------------- studies


STUDY = Study(
    name="tiny",
    defences=("mean", "flame"),
    attacks=("none", "dba"),
    trial={"data": "digits", "rounds": 4, "window": [1, 3]},
)


def test_one_worker_two_workers_and_a_resumed_run_give_the_same_bits(tmp_path: Path) -> None:
    one = run_study(STUDY, Ledger(tmp_path / "one", create=True))
    two = run_study(STUDY, Ledger(tmp_path / "two", create=True), workers=2)
    ledger = Ledger(tmp_path / "again", create=True)
    for record in one[:2]:
        ledger.add(record)
    again = run_study(STUDY, ledger)
    digests = [record.digest for record in one]
    assert len(set(digests)) == 4
    assert digests == [record.digest for record in two] == [record.digest for record in again]
    assert again[0].seconds == one[0].seconds  # it was not run again
    assert {r.digest for r in ledger} == set(digests)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray has its own
def test_ray_gives_the_same_bits(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    from gifthorse.federated.on_ray import run_on_ray

    here = run_study(STUDY, Ledger(tmp_path / "here", create=True))
    there = run_study(
        STUDY, Ledger(tmp_path / "there", create=True), run=partial(run_on_ray, cpus=2)
    )
    assert [record.digest for record in here] == [record.digest for record in there]


def test_seeds_become_one_row() -> None:
    study = Study(name="s", defences=("mean",), attacks=("none",), seeds=(0, 1),
                  trial={"data": "digits", "rounds": 2, "window": [0, 1]})  # fmt: skip
    found = rows(run_trial(spec).record for spec in study.trials())
    assert [(row.trials, row.defence) for row in found] == [(2, "mean")]
    assert found[0].found is None


def test_a_changed_or_broken_record_is_noticed(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l", create=True)
    record = run_trial(small(rounds=2, window=(0, 1))).record
    ledger.add(record)
    path = next((tmp_path / "l").glob("*.json"))
    path.write_text(path.read_text().replace('"clean_accuracy":0.', '"clean_accuracy":0.0', 3))
    with pytest.raises(RecordError, match="changed after"):
        ledger.find(record.spec)
    path.write_text(path.read_text()[:100])
    with pytest.raises(RecordError, match="not the record of a trial"):
        list(ledger)
    with pytest.raises(RecordError, match="no such ledger"):
        Ledger(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "not TOML"),
        ("name = 'x'", "defences"),
        (
            "name='x'\ndefences=['mean']\nattacks=['none']\n[trial]\ndata='digits'\nround=3",
            "did you mean",
        ),
        ("name='x'\ndefences=['mean']\nattacks=['none']\n[trial]\nalpha=1", "belongs to the grid"),
        (
            "name='x'\ndefences=['mean']\nattacks=['none']\nalpha=[1]\n[trial]\ndata='digits'",
            "alpha",
        ),
        ("name='x'\ndefences=['mean']\nattacks=['none@head']\n[trial]\ndata='digits'", "backdoor"),
        ("name='x'\ndefences=['mean']\nattacks=['none']\n[trial]\nclients=5", "data"),
        ("name='x'\ndefences=['crumb']\nattacks=['none']\n[trial]\ndata='digits'", "no aggregator"),
        ("trial = 3", "name"),
    ],
)
def test_a_study_that_is_none_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "study.toml"
    path.write_text(text)
    with pytest.raises(SpecError, match=message):
        read_study(path).trials()
    with pytest.raises(SpecError, match="cannot read"):
        read_study(tmp_path / "missing.toml")


def test_the_shipped_studies_can_be_read() -> None:
    for path in sorted((Path(__file__).parents[2] / "studies").glob("federated-*.toml")):
        assert len(read_study(path).trials()) >= 4
