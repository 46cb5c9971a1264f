"""`gifthorse.load`: what was verified is what is loaded, whoever writes there meanwhile."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertTokenizer,
)

import gifthorse
from gifthorse.core.errors import TrustError, TrustInputError
from gifthorse.models.verified_tensors import tensors_in
from gifthorse.provenance.keys import PrivateKey, generate_key
from gifthorse.provenance.sign import sign

GOOD, EVIL = 1.0, -1.0


@pytest.fixture(scope="module")
def alice() -> PrivateKey:
    return generate_key()


@pytest.fixture
def weights(tmp_path: Path, alice: PrivateKey) -> Path:
    """A signed file of one tensor that is large enough to be read in pieces."""
    path = tmp_path / "weights.safetensors"
    save_file({"w": torch.full((3 << 20,), GOOD)}, path)
    sign(path, key=alice)
    return path


@pytest.fixture
def bert(tmp_path: Path, alice: PrivateKey) -> Path:
    """A signed text classifier with its tokenizer."""
    place = tmp_path / "bert"
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        num_labels=3,
    )
    BertForSequenceClassification(config).save_pretrained(place)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "gift", "horse"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(place)
    sign(place, key=alice, name="acme/bert")
    return place


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return set(one) == set(other) and all(torch.equal(one[key], other[key]) for key in one)


def test_a_model_and_its_tokenizer_in_one_line(bert: Path, alice: PrivateKey) -> None:
    model, tokenizer = gifthorse.load(
        bert, (AutoModelForSequenceClassification, AutoTokenizer), key=alice.public
    )
    plain = BertForSequenceClassification.from_pretrained(bert)
    assert type(model) is BertForSequenceClassification
    assert same(model.state_dict(), plain.state_dict())
    assert not model.training
    words = AutoTokenizer.from_pretrained(bert)
    assert tokenizer("a gift horse").input_ids == words("a gift horse").input_ids
    fed = tokenizer("a gift horse", return_tensors="pt")
    assert torch.equal(model(**fed).logits, plain(**fed).logits)


def test_the_architecture_is_read_from_the_configuration(bert: Path, alice: PrivateKey) -> None:
    assert type(gifthorse.load(bert, key=alice.public)) is BertForSequenceClassification


def test_shards(bert: Path, tmp_path: Path, alice: PrivateKey) -> None:
    plain = BertForSequenceClassification.from_pretrained(bert)
    place = tmp_path / "sharded"
    plain.save_pretrained(place, max_shard_size="2KB")
    assert len(list(place.glob("*.safetensors"))) > 1
    sign(place, key=alice)
    assert same(gifthorse.load(place, key=alice.public).state_dict(), plain.state_dict())
    index = place / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["classifier.bias"] = "elsewhere.safetensors"
    index.write_text(json.dumps(content))
    sign(place, key=alice, replace=True)
    with pytest.raises(TrustError, match="elsewhere"):
        gifthorse.load(place, key=alice.public)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")  # peft's own
def test_an_adapter(bert: Path, tmp_path: Path, alice: PrivateKey) -> None:
    peft = pytest.importorskip("peft")
    base = BertForSequenceClassification.from_pretrained(bert)
    made = peft.get_peft_model(base, peft.LoraConfig(target_modules=["query"], task_type="SEQ_CLS"))
    with torch.no_grad():
        for name, value in made.named_parameters():
            if "lora_B" in name:
                value.normal_()
    made.eval().save_pretrained(tmp_path / "adapter")
    sign(tmp_path / "adapter", key=alice)
    again = gifthorse.load(
        tmp_path / "adapter", key=alice.public, base=gifthorse.load(bert, key=alice.public)
    )
    fed = torch.tensor([[2, 6, 7, 3]])
    assert torch.equal(again(fed).logits, made(fed).logits)
    assert not torch.equal(again(fed).logits, gifthorse.load(bert, key=alice.public)(fed).logits)
    with pytest.raises(TrustInputError, match="base"):
        gifthorse.load(tmp_path / "adapter", key=alice.public)


def test_plain_tensors_of_every_type(tmp_path: Path, alice: PrivateKey) -> None:
    tensors = {
        "f32": torch.randn(3, 4),
        "bf16": torch.randn(5).to(torch.bfloat16),
        "i8": torch.arange(7, dtype=torch.int8),
        "bool": torch.tensor([True, False, True]),
        "f64": torch.randn(2, 2, dtype=torch.float64),
        "scalar": torch.tensor(3),
        "empty": torch.empty(0, 4),
    }
    path = tmp_path / "t.safetensors"
    save_file(tensors, path)
    sign(path, key=alice)
    found = gifthorse.load(path, key=alice.public)
    assert same(found, tensors)
    found["f32"].add_(1)  # the memory is ours to write to


@pytest.mark.parametrize("change", ["flip", "truncate", "extra", "unsigned", "other key"])
def test_whatever_does_not_hold_is_one_exception(
    bert: Path, alice: PrivateKey, change: str
) -> None:
    key = alice.public
    file = bert / "model.safetensors"
    if change == "flip":
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
    elif change == "truncate":
        os.truncate(file, 100)
    elif change == "extra":
        (bert / "modeling.py").write_text("raise SystemExit")
    elif change == "unsigned":
        (bert / "gifthorse.sig").unlink()
    else:
        key = generate_key().public
    for kind in (None, AutoTokenizer, dict):
        with pytest.raises(TrustError):
            gifthorse.load(bert, kind, key=key)


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        ({"architectures": ["BertForMaskedLM", 1], "model_type": "mine"}, "not part of"),
        ({"auto_map": {"AutoConfig": "x.Y"}, "model_type": "mine"}, "not part of"),
        ({"architectures": ["pipeline"]}, "no transformers class"),
        ({"architectures": None}, "no transformers class"),
        ({"transformers_weights": "other.safetensors"}, "other weights"),
        ({"attn_implementation": "somebody/kernel"}, "from a hub"),
        ({"hidden_size": 16}, "shape|mismatch"),
        ({"hidden_size": "x"}, "cannot be loaded"),
        ({"num_hidden_layers": 2}, "nobody signed"),
    ],
)
def test_what_is_signed_can_still_be_refused(
    bert: Path, alice: PrivateKey, edit: dict[str, Any], says: str
) -> None:
    config = json.loads((bert / "config.json").read_text())
    (bert / "config.json").write_text(json.dumps({**config, **edit}))
    sign(bert, key=alice, replace=True)
    with pytest.raises(TrustError, match=says):
        gifthorse.load(bert, key=alice.public)


def test_a_signed_pickle_is_not_opened(tmp_path: Path, alice: PrivateKey) -> None:
    place = tmp_path / "model"
    place.mkdir()
    torch.save({"w": torch.ones(1)}, place / "pytorch_model.bin")
    sign(place, key=alice)
    with pytest.raises(TrustError, match="no safetensors"):
        gifthorse.load(place, key=alice.public)


def test_verifying_without_loading_is_one_call(bert: Path, alice: PrivateKey) -> None:
    assert gifthorse.verify(bert, key=alice.public, name="acme/bert").name == "acme/bert"
    (bert / "extra.py").write_text("")
    with pytest.raises(TrustError, match="not signed"):
        gifthorse.verify(str(bert), key=[alice.public])
    with pytest.raises(TrustInputError, match="whom"):
        gifthorse.verify(bert)


def test_the_question_itself(bert: Path, alice: PrivateKey) -> None:
    with pytest.raises(TrustInputError, match="whom"):
        gifthorse.load(bert)
    with pytest.raises(TrustInputError, match="no such"):
        gifthorse.load(bert / "nowhere", key=alice.public)
    with pytest.raises(TrustInputError, match="trust_remote_code"):
        gifthorse.load(bert, key=alice.public, options={"trust_remote_code": True})
    with pytest.raises(TrustError, match="signed as"):
        gifthorse.load(bert, key=alice.public, name="acme/other")


@pytest.mark.parametrize("what", ["file", "directory"])
@pytest.mark.parametrize("how", ["replace", "overwrite"])
@pytest.mark.parametrize("moment", ["before", "listed", 1, 2, 3, "last", "hashed"])
def test_a_file_exchanged_at_any_moment_is_never_loaded(
    weights: Path,
    tmp_path: Path,
    alice: PrivateKey,
    monkeypatch: pytest.MonkeyPatch,
    moment: str | int,
    how: str,
    what: str,
) -> None:
    """Either the signed content is loaded or nothing; ``hashed`` is the classical race."""
    path, evil = weights, tmp_path / "evil"
    if what == "directory":
        path = tmp_path / "model"
        path.mkdir()
        weights = weights.rename(path / "model.safetensors")
        sign(path, key=alice)
    save_file({"w": torch.full((3 << 20,), EVIL)}, evil)
    done: list[object] = []

    def exchange() -> None:
        if done:
            return
        done.append(moment)
        if how == "replace":
            evil.replace(weights)
        else:  # the same inode that is open already
            with weights.open("r+b") as file:
                file.write(evil.read_bytes())

    _at(moment, exchange, weights, monkeypatch)
    try:
        found = gifthorse.load(path, key=alice.public)
    except TrustError:
        found = None
    assert done, "the moment never came"
    opened = moment not in ("before", "listed") or (moment == "listed" and what == "file")
    read = moment in ("last", "hashed")
    # Loaded only if everything had been read, or if the signed file was held open.
    assert (found is not None) == (read or (how == "replace" and opened))
    assert found is None or bool((found["w"] == GOOD).all())
    with pytest.raises(TrustError):  # the exchange is real: later loads refuse it
        gifthorse.load(path, key=alice.public)


def _at(
    moment: str | int, act: Callable[[], None], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gifthorse.models import verified
    from gifthorse.provenance import verify as verifying

    if moment == "before":
        act()
        return
    if moment == "listed":
        _before(verifying, "_compare_contents", act, monkeypatch)
        return
    if moment == "hashed":
        _before(verified, "state_dict_in", act, monkeypatch)
        return
    real, count = os.readv, [0]
    last = -(-file.stat().st_size // (4 << 20)) + 1

    def readv(descriptor: int, buffers: Any) -> int:
        count[0] += 1
        if count[0] == (last if moment == "last" else moment):
            act()
        return real(descriptor, buffers)

    monkeypatch.setattr(os, "readv", readv)


def _before(
    where: Any, name: str, act: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = getattr(where, name)

    def wrapped(*arguments: Any) -> Any:
        act()
        return real(*arguments)

    monkeypatch.setattr(where, name, wrapped)


def test_somebody_who_swaps_all_the_time_never_wins(weights: Path, alice: PrivateKey) -> None:
    good, evil = weights.with_name("good"), weights.with_name("evil")
    shutil.copy(weights, good)
    save_file({"w": torch.full((3 << 20,), EVIL)}, evil)
    stop = threading.Event()

    def swap() -> None:
        turn = 0
        while not stop.is_set():
            shutil.copy(evil if turn % 2 else good, weights.with_name("next"))
            weights.with_name("next").replace(weights)
            turn += 1

    thread = threading.Thread(target=swap)
    thread.start()
    outcomes = set()
    try:
        for _ in range(40):
            try:
                found = gifthorse.load(weights, key=alice.public)
            except TrustError:
                outcomes.add("refused")
            else:
                assert bool((found["w"] == GOOD).all())
                outcomes.add("loaded")
    finally:
        stop.set()
        thread.join()
    assert "refused" in outcomes


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[]",
        b'{"a":1}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}}',
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,9]}}',
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[-1,-2],"data_offsets":[0,8]}}',
        b'{"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}}',
        b'{"a":{"dtype":"X","shape":[2],"data_offsets":[0,8]}}',
        b'{"a":{"dtype":[],"shape":[2],"data_offsets":[0,8]}}',
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"__metadata__":{"a":1}}',
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],'
        b'"data_offsets":[0,8]}}',
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],'
        b'"data_offsets":[4,8]}}',
    ],
)
def test_headers_that_break_a_rule(header: bytes) -> None:
    content = len(header).to_bytes(8, "little") + header + bytes(8)
    with pytest.raises(TrustError):
        tensors_in(memoryview(bytearray(content)), "file")


def test_importing_gifthorse_imports_no_torch() -> None:
    code = "import sys, gifthorse; gifthorse.__all__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0  # noqa: S603
