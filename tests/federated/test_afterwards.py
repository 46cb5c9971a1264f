"""After the fact: a model directory, clients taken out of it, who contributed to what."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from gifthorse.core.errors import DataError, RecordError, SpecError
from gifthorse.core.rounds_record import ServerRound, TrialSpec
from gifthorse.data.sources import load
from gifthorse.detectors.clients.explained import Explained
from gifthorse.detectors.clients.mean import Mean
from gifthorse.federated.afterwards import find_trial, replay_trial
from gifthorse.federated.checkpoint import Checkpoint
from gifthorse.federated.ledger import Ledger
from gifthorse.federated.lineage import model_file, reply_name, write_lineage
from gifthorse.federated.removal import read_rounds, replay, write_round
from gifthorse.federated.rounds import TrialResult, context_of, methods, run_trial
from gifthorse.federated.server_after import server_lineage, without_nodes
from gifthorse.federated.server_place import ServerPlace
from gifthorse.federated.world import build_world
from gifthorse.models.flat import small_cnn
from gifthorse.models.flat_model import flat_classifier
from gifthorse.models.loading import load_classifier
from gifthorse.models.passes import predict, predict_logits
from gifthorse.models.saving import save_classifier
from gifthorse.provenance.asking import about_model, about_sample
from gifthorse.provenance.store import SqliteStore

SPEC = TrialSpec(
    data="digits", rounds=12, window=(5, 8), attack="train_and_scale", defence="anchored"
)
BAD = tuple(f"client-{i:03d}" for i in range(4))


@pytest.mark.parametrize("defence", ["mean", "anchored", "explained", "foolsgold"])
def test_a_replay_without_anybody_left_out_is_the_model_bit_for_bit(defence: str) -> None:
    spec = SPEC.model_copy(update={"defence": defence, "rounds": 6, "window": (2, 4)})
    world = build_world(spec)
    result = run_trial(spec, keep_updates=True, world=world)
    context = partial(context_of, spec, world)
    model = replay(result.initial, result.stored, methods(spec)[0], context)
    np.testing.assert_array_equal(model, result.model)
    with pytest.raises(DataError, match="no stored update is of nobody"):
        replay(result.initial, result.stored, methods(spec)[0], context, without=["nobody"])


def test_clients_taken_out_take_their_backdoor_with_them(tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"defence": "mean", "rounds": 24, "window": (8, 16)})
    record = run_trial(spec).record
    assert record.rounds[-1].attack_success > 0.5
    found = replay_trial(record, tmp_path / "after", without=BAD)
    assert found.before.attack_success == pytest.approx(record.rounds[-1].attack_success)
    assert found.after is not None
    assert found.mended is not None
    assert found.unhealed is not None
    assert found.unhealed.attack_success < 0.1
    assert found.after.attack_success < 0.1
    assert found.after.clean_accuracy > 0.8
    # The directory holds the model that was measured.
    test = load("digits", split="test")
    for place, rates in ((found.model, found.before), (found.mended, found.after)):
        right = (predict(load_classifier(place), test) == test.labels).mean()
        assert right == pytest.approx(rates.clean_accuracy)
    with pytest.raises(DataError, match="not empty"):
        replay_trial(record, tmp_path / "after")


def test_a_trial_that_comes_out_differently_is_said(tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"rounds": 3, "window": (1, 2)})
    record = run_trial(spec).record.model_copy(update={"digest": "sha256:" + "0" * 64})
    with pytest.raises(RecordError, match="comes out as"):
        replay_trial(record, tmp_path / "after")
    assert not (tmp_path / "after").exists()


def test_a_trial_is_found_by_the_start_of_its_key(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, create=True)
    record = run_trial(SPEC.model_copy(update={"rounds": 2, "window": (0, 1)})).record
    ledger.add(record)
    assert find_trial(ledger, record.spec.key()[:4]) == record
    with pytest.raises(DataError, match="expected 1 of"):
        find_trial(ledger, "zz")


def test_a_reply_leads_to_its_models_and_a_model_to_its_clients(tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"defence": "krum", "rounds": 4, "window": (1, 3)})
    world = build_world(spec)
    result = run_trial(spec, keep_updates=True, world=world)
    layout = world.learner.layout
    place = write_lineage(
        result.stored, result.model, layout, tmp_path / "l", name="t", parameters={"seed": 0}
    )
    store = SqliteStore(place)
    winners = [entry.accepted[0] for entry in result.record.rounds]
    for number, winner in enumerate(winners):
        forward = about_sample(store, reply_name(number, winner))
        assert forward is not None
        assert [model.consumed for model in forward.models] == [1] + [0] * (3 - number)
    loser = next(name for name in result.stored[1].clients if name != winners[1])
    kept_out = about_sample(store, reply_name(1, loser))
    assert kept_out is not None
    assert kept_out.models == ()
    file = tmp_path / "final.safetensors"
    file.write_bytes(model_file(result.model, layout))
    back = about_model(store, file)
    assert {c.name: c.traced for c in back.contributors} == {
        name: winners.count(name) for name in winners
    }
    assert len(back.models) == 4
    store.close()
    with pytest.raises(DataError, match="exists"):
        write_lineage(result.stored, result.model, layout, tmp_path / "l", name="t", parameters={})


def test_stored_rounds_come_back_and_broken_ones_are_refused(tmp_path: Path) -> None:
    result = run_trial(SPEC.model_copy(update={"rounds": 2, "window": (0, 1)}), keep_updates=True)
    for one in result.stored:
        write_round(tmp_path, one)
    for one, found in zip(result.stored, read_rounds(tmp_path), strict=True):
        assert (one.round, one.clients, one.accepted, one.digests) == (
            found.round, found.clients, found.accepted, found.digests,
        )  # fmt: skip
        np.testing.assert_array_equal(one.deltas, found.deltas)
        np.testing.assert_array_equal(one.before, found.before)
    path = tmp_path / "round-00001.npz"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(RecordError, match="not a stored round"):
        list(read_rounds(tmp_path))
    with pytest.raises(RecordError, match="holds no stored rounds"):
        list(read_rounds(tmp_path / "nowhere"))


def test_a_place_keeps_a_second_server_out_and_misses_no_round(tmp_path: Path) -> None:
    place = ServerPlace(folder=tmp_path / "server")
    held = place.claim(wait=0)
    with pytest.raises(RecordError, match="another server is at work"):
        ServerPlace(folder=tmp_path / "server").claim(wait=0)
    held.close()
    place.claim(wait=0).close()
    stored = run_trial(
        SPEC.model_copy(update={"rounds": 1, "window": (0, 1)}), keep_updates=True
    ).stored[0]
    for number in (1, 2):
        entry = ServerRound(
            round=number, accepted=("a",), rejected=(), quarantined=(), missing=(), fallback=None,
            scores={"a": 0.0}, replies={"a": "0" * 64}, before="x", after="y",
        )  # fmt: skip
        state = Checkpoint(round=number, arrays={}, memory={}, seen=frozenset())
        place.add(entry, stored, state)
    assert [entry.round for entry in place.rounds()] == [1, 2]
    assert sorted(p.name for p in place.folder.iterdir()) == [
        "checkpoint.npz", "lock", "round-00001.json", "round-00002.json",
    ]  # fmt: skip
    (place.folder / "round-00001.json").write_text("{}")
    with pytest.raises(RecordError, match="not the record of a round"):
        list(place.rounds())


def test_a_flat_network_is_an_ordinary_model_directory(tmp_path: Path) -> None:
    learner = small_cnn((1, 8, 8), 10)
    flat = learner.initial(np.random.default_rng(0))
    classifier = flat_classifier(
        flat, learner.layout, network="cnn", image_shape=(1, 8, 8), class_names=tuple("0123456789")
    )
    test = load("digits", split="test")
    save_classifier(classifier, tmp_path / "model")
    for one in (classifier, load_classifier(tmp_path / "model")):
        expected = learner.logits(flat, test.batch(np.arange(len(test))))
        np.testing.assert_allclose(predict_logits(one, test), expected, atol=1e-5)


# ---------------------------------------------------------------- a real server's directory


@pytest.fixture
def server(tmp_path: Path) -> tuple[Path, TrialResult]:
    """What a server that averages keeps of six rounds, the first three attacked."""
    spec = SPEC.model_copy(update={"defence": "mean", "rounds": 6, "window": (0, 3)})
    world = build_world(spec)
    result = run_trial(spec, keep_updates=True, world=world)
    place = ServerPlace(folder=tmp_path / "server", keep_updates=True)
    models = [*(one.before for one in result.stored[1:]), result.model]
    for number, (stored, model) in enumerate(zip(result.stored, models, strict=True), start=1):
        arrays = {n: v.astype(np.float32) for n, v in world.learner.layout.split(model).items()}
        entry = ServerRound(
            round=number, accepted=stored.clients, rejected=(), quarantined=(), missing=(),
            fallback=None, scores={}, replies={}, before="x", after="y",
        )  # fmt: skip
        state = Checkpoint(round=number, arrays=arrays, memory={}, seen=frozenset())
        place.add(entry, replace(stored, round=number), state)
    return place.folder, result


def test_a_servers_directory_is_traced_and_nodes_are_taken_out(
    server: tuple[Path, TrialResult], tmp_path: Path
) -> None:
    folder, result = server
    store = SqliteStore(server_lineage(folder, tmp_path / "lineage"))
    found = about_sample(store, reply_name(2, "client-003"))
    assert found is not None
    assert [model.consumed for model in found.models] == [1, 0, 0, 0, 0]
    store.close()
    mended = without_nodes(folder, Mean(), BAD, tmp_path / "mended.safetensors")
    layout = build_world(result.record.spec).learner.layout
    by_hand = result.initial
    for one in result.stored:
        rows = [i for i, name in enumerate(one.clients) if name not in BAD]
        by_hand = (by_hand + one.deltas[rows].mean(axis=0)).astype(np.float32).astype(np.float64)
    np.testing.assert_allclose(layout.join(load_file(mended)), by_hand, atol=1e-6)
    with pytest.raises(DataError, match="exists"):
        without_nodes(folder, Mean(), BAD, mended)
    with pytest.raises(SpecError, match="own samples"):
        without_nodes(folder, Explained(), BAD, tmp_path / "no")
    (folder / "round-00002.npz").unlink()
    with pytest.raises(RecordError, match="5 of 6 rounds"):
        server_lineage(folder, tmp_path / "again")
    with pytest.raises(RecordError, match="no such directory"):
        server_lineage(tmp_path / "nowhere", tmp_path / "again")
