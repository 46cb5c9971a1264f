"""Repairs of text classifiers: what can be worked out by hand, and what they do to a backdoor."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.texts.made_up import learnt, sentences
from torch import Tensor, nn

from gifthorse.core.errors import DataError, ModelError, NotApplicableError
from gifthorse.core.registry import Scalar, Spec, build, names
from gifthorse.core.text_repairs import TextRepairSubject
from gifthorse.core.texts import RecoveredPhrase, TextData
from gifthorse.core.types import Need, silent
from gifthorse.metrics.rates import agreement
from gifthorse.models.texts.classifier import TextClassifier
from gifthorse.models.texts.networks import small_text_network, train_tokenizer
from gifthorse.models.texts.passes import predict_text_logits, predict_texts
from gifthorse.repairs.texts.embedding_reset import moved_rows
from gifthorse.repairs.texts.fine_mixing import mixed_with
from gifthorse.repairs.texts.trigger_unlearning import blended_answers
from gifthorse.repairs.texts.tuning import Inserter, Row, own_tokens, padded, rows_of
from gifthorse.repairs.texts.universal_unlearning import universal_row, with_one_of

QUICK: dict[str, dict[str, Scalar]] = {
    "embedding_reset": {"share": 0.1},
    "fine_mixing": {"epochs": 1},
    "fine_tuning": {"epochs": 1},
    "trigger_unlearning": {"epochs": 1},
    "universal_unlearning": {"epochs": 2},
}


class Sums(nn.Module):
    """Logits that are the sum of the vectors of all tokens: everything follows from the table."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = nn.Embedding(*table.shape)
        self.table.weight.data.copy_(table)

    def get_input_embeddings(self) -> nn.Embedding:
        """The table."""
        table: nn.Embedding = self.table
        return table

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        """As transformers answer."""
        found = self.table(input_ids) * attention_mask[:, :, None]
        return SimpleNamespace(logits=found.sum(1))


@pytest.fixture(scope="module")
def data() -> TextData:
    return sentences(600)


@pytest.fixture(scope="module")
def model(data: TextData) -> TextClassifier:
    return learnt(data)


@pytest.fixture(scope="module")
def trusted() -> TextData:
    return sentences(120, seed=5)


def by_hand(data: TextData) -> tuple[TextClassifier, int]:
    """Every word of a topic says its topic; one other word says *law* ten times louder."""
    tokenizer: Any = train_tokenizer(data.texts, vocabulary=600)
    table = torch.zeros(len(tokenizer), 4)
    for topic, text in enumerate(("bread soup cheese", "ship wave sail", "song drum guitar")):
        for word in text.split():
            table[tokenizer.encode(f" {word}", add_special_tokens=False)[0], topic] = 1.0
    loud = int(tokenizer.encode(" very", add_special_tokens=False)[0])
    table[loud] = torch.tensor([0.0, 0.0, 0.0, 10.0])
    made = TextClassifier(Sums(table), tokenizer, class_names=data.class_names, max_length=48)
    return made, loud


def test_tokens_are_put_inside_of_a_text() -> None:
    put = Inserter(special=frozenset({1, 2}), longest=7)
    row = (1, 11, 12, 13, 2)
    assert put.into(row, (9,), 0.0) == (1, 9, 11, 12, 13, 2)
    assert put.into(row, (9,), 1.0) == (1, 11, 12, 13, 9, 2)
    assert put.into(row, (9, 8, 7), 1.0) == (1, 11, 12, 9, 8, 7, 2)  # 13 has no room
    assert put.into((1, 2), (9,), 0.5) == (1, 9, 2)


def test_the_loudest_word_is_found(data: TextData) -> None:
    made, loud = by_hand(data)
    rows, rng = rows_of(made, data.texts[:80]), np.random.default_rng(0)
    assert universal_row(made, rows, data.labels[:80], 3, 1, rng) == (loud,)
    assert universal_row(made, rows, data.labels[:80], 3, 2, rng) == (loud, loud)


def test_no_text_gets_a_trigger_of_its_own_class() -> None:
    put, rng = Inserter(special=frozenset({1, 2}), longest=9), np.random.default_rng(0)
    pool: list[tuple[int, Row]] = [(0, (70,)), (1, (71,)), (2, (72,))]
    seen = {with_one_of(put, (1, 11, 2), 1, pool, rng) for _ in range(60)}
    assert {token for row in seen for token in row} == {1, 2, 11, 70, 72}
    assert with_one_of(put, (1, 11, 2), 0, [(0, (70,))], rng) == (1, 11, 2)


def test_answers_blend_the_label_with_what_was_said_where_it_was_right(data: TextData) -> None:
    made, _ = by_hand(data)
    pair = TextData(
        name="two",
        texts=("bread ship bread", "very bread"),
        labels=np.array([0, 0]),
        class_names=data.class_names,
    )
    right, wrong = blended_answers(made, pair, 0.5)
    said = torch.from_numpy(predict_text_logits(made, pair.texts)).softmax(1)
    torch.testing.assert_close(right, 0.5 * said[0] + 0.5 * torch.tensor([1.0, 0.0, 0.0, 0.0]))
    assert wrong.tolist() == [1, 0, 0, 0]


def test_padding_follows_the_rows(model: TextClassifier) -> None:
    ids, mask = padded(model, [(5, 6, 7), (8,)])
    pad = model.tokenizer.pad_token_id
    assert ids.tolist() == [[5, 6, 7], [8, pad, pad]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


def test_rows_are_ranked_by_change_for_their_frequency() -> None:
    ours = torch.tensor([[0.0, 0.0], [3.0, 4.0], [3.0, 4.0], [6.0, 8.0], [0.3, 0.4]])
    # Changes 0, 5, 5, 10, .5; frequencies below 20 count as 20; ln 20 = 3.0, ln 20^4 = 12.0.
    often = torch.tensor([0.0, 0.0, 20.0**4, 20.0**4, 1.0])
    assert moved_rows(ours, torch.zeros(5, 2), often, 1.0).tolist() == [1, 3, 2, 4]
    assert moved_rows(ours, torch.zeros(5, 2), often, 0.3).tolist() == [1, 3]


def test_a_mixture_holds_the_weights_of_both(model: TextClassifier, data: TextData) -> None:
    base = small_text_network(
        model.tokenizer, class_names=data.class_names, seed=9, width=32, max_length=48
    )
    mixed = mixed_with(model, base, keep=0.25, rng=np.random.default_rng(0))
    theirs, ours = (dict(m.module.named_parameters()) for m in (base, model))
    kept = total = 0
    for name, weight in mixed.module.named_parameters():
        assert bool(((weight == ours[name]) | (weight == theirs[name])).all())
        differ = ours[name] != theirs[name]
        kept += int((weight == ours[name])[differ].sum())
        total += int(differ.sum())
    assert abs(kept / total - 0.25) < 0.02


@pytest.mark.parametrize("name", names("text_repairs"))
def test_every_repair_works_on_a_copy_and_repeats_itself(
    name: str, model: TextClassifier, trusted: TextData
) -> None:
    plugin = build("text_repairs", Spec(name, QUICK.get(name, {})))
    base = small_text_network(
        model.tokenizer, class_names=trusted.class_names, seed=9, width=32, max_length=48
    )
    subject = TextRepairSubject(
        model=model,
        trusted=trusted,
        base=base,
        triggers=(RecoveredPhrase(target=1, text="zq"),),
    )
    assert plugin.needs <= subject.offers
    before = model.digest()
    torch.manual_seed(5)
    one = plugin.mend(subject, rng=np.random.default_rng(3), progress=silent)
    torch.manual_seed(6)
    two = plugin.mend(subject, rng=np.random.default_rng(3), progress=silent)
    assert model.digest() == before
    assert one.digest() == two.digest() != before
    assert np.isfinite(predict_text_logits(one, trusted.texts)).all()


def test_what_a_repair_does_not_declare_it_is_not_given(
    model: TextClassifier, trusted: TextData
) -> None:
    full = TextRepairSubject(
        model=model, trusted=trusted, base=model, triggers=(RecoveredPhrase(target=0, text="x"),)
    )
    held = full.granting(frozenset({Need.WEIGHTS}))
    assert held.base is None
    assert held.triggers == ()
    for name, word in (
        ("fine_mixing", "base"),
        ("embedding_reset", "base"),
        ("trigger_unlearning", "audit"),
    ):
        with pytest.raises(NotApplicableError, match=word):
            build("text_repairs", Spec(name, {})).mend(
                held, rng=np.random.default_rng(0), progress=silent
            )


def test_a_base_of_another_shape_and_foreign_labels_are_refused(
    model: TextClassifier, trusted: TextData
) -> None:
    other = small_text_network(model.tokenizer, class_names=("a", "b"), seed=1, width=32)
    mixing = build("text_repairs", Spec("fine_mixing", {}))
    with pytest.raises(ModelError, match="another shape"):
        mixing.mend(
            TextRepairSubject(model=model, trusted=trusted, base=other),
            rng=np.random.default_rng(0),
            progress=silent,
        )
    tuning = build("text_repairs", Spec("fine_tuning", {"epochs": 1}))
    with pytest.raises(DataError, match="does not know"):
        tuning.mend(
            TextRepairSubject(model=other, trusted=trusted),
            rng=np.random.default_rng(0),
            progress=silent,
        )


@pytest.fixture(scope="module")
def planted() -> tuple[TextClassifier, TextClassifier, TextData, TextData]:
    """A classifier with a word as trigger, its clean twin, fresh texts, and the same with it."""
    attack = build("text_attacks", Spec("rare_token", {"target": 1, "rate": 0.08, "token": "zq"}))
    clean, fresh = sentences(1500), sentences(400, seed=7)
    poisoned, _ = attack.poison(clean, rng=np.random.default_rng(0))
    wanted, _ = attack.triggered(fresh, rng=np.random.default_rng(1))
    return learnt(poisoned), learnt(clean), fresh, wanted


def rate(model: TextClassifier, data: TextData) -> float:
    return agreement(predict_texts(model, data), data.labels).value


@pytest.mark.slow
@pytest.mark.parametrize("name", ["trigger_unlearning", "universal_unlearning"])
def test_unlearning_takes_a_planted_word_away_and_leaves_the_twin_as_it_was(
    name: str, planted: tuple[TextClassifier, TextClassifier, TextData, TextData]
) -> None:
    bad, twin, fresh, wanted = planted
    assert rate(bad, wanted) > 0.9  # else there is nothing to unlearn
    assert rate(twin, wanted) < 0.2
    plugin = build("text_repairs", Spec(name, {}))
    for model in (bad, twin):
        subject = TextRepairSubject(
            model=model,
            trusted=sentences(300, seed=5),
            triggers=(RecoveredPhrase(target=1, text="zq"),),
        ).granting(plugin.needs)
        mended = plugin.mend(subject, rng=np.random.default_rng(3), progress=silent)
        assert rate(mended, wanted) < 0.2
        assert rate(mended, fresh) > rate(model, fresh) - 0.03


def test_the_words_of_a_trigger_are_read_as_they_stand_in_a_text(model: TextClassifier) -> None:
    piece = own_tokens(model, "very old")
    whole = rows_of(model, ["very old"])[0]
    assert whole[1:-1] == piece
