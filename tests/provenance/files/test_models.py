"""GGUF, ONNX, Keras, TensorFlow, YAML and tables: every rule, and its clean twin."""

import json
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gifthorse.core.types import Verdict
from gifthorse.provenance.files.gguf_file import BLOCKS

from .made import hostile, rules, scan_bytes, zipped

_TEMPLATE = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] | trim }}{% endfor %}"


def _gguf(path: Path, template: str = _TEMPLATE) -> bytes:
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_chat_template(template)
    writer.add_token_list(["a", "b", "c"])
    writer.add_array("tokenizer.ggml.scores", [0.5, 1.5])
    writer.add_tensor("a", np.ones((4, 32), dtype=np.float32))
    writer.add_tensor("b", np.ones(7, dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def test_gguf(tmp_path: Path) -> None:
    whole = _gguf(tmp_path / "made.gguf")
    found = scan_bytes(whole, tmp_path, "m.gguf")
    assert (found.verdict, found.formats) == (Verdict.CLEAR, ("gguf",)), found.issues
    for length in (*range(5, 300, 7), len(whole) - 64):
        assert scan_bytes(whole[:length], tmp_path, "m.gguf").verdict is Verdict.INCONCLUSIVE
    trailing = scan_bytes(whole + bytes(100), tmp_path, "m.gguf")
    assert rules(trailing) == {"gguf-trailing"}
    for place in (4, 8, 16, 24):
        hostile_ = whole[:place] + b"\xff" * 8 + whole[place + 8 :]
        assert scan_bytes(hostile_, tmp_path, "m.gguf").verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{% set x = cycler.__init__.__globals__.os.popen('id') %}",
        "{{ x|attr('\\x5f\\x5fclass') }}",
        "{{ x['__cla' + 'ss__'] }}",
        "{{ lipsum.__globals__ }}",
    ],
)
def test_hostile_templates(template: str, tmp_path: Path) -> None:
    content = _gguf(tmp_path / "made.gguf", template)
    assert rules(scan_bytes(content, tmp_path, "m.gguf")) == {"template-hostile"}
    as_json = json.dumps({"chat_template": [{"name": "a", "template": template}]}).encode()
    assert scan_bytes(as_json, tmp_path, "t.json").verdict is Verdict.FLAGGED
    assert scan_bytes(template.encode(), tmp_path, "c.jinja").verdict is Verdict.FLAGGED
    assert scan_bytes(_TEMPLATE.encode(), tmp_path, "c.jinja").verdict is Verdict.CLEAR


def test_sizes_of_gguf_blocks() -> None:
    import gguf

    known = {int(kind): size for kind, size in gguf.GGML_QUANT_SIZES.items()}
    assert {kind: known[kind] for kind in BLOCKS if kind in known} == {
        kind: size for kind, size in BLOCKS.items() if kind in known
    }


def _number(value: int) -> bytes:
    found = b""
    while value > 0x7F:
        found, value = found + bytes([value & 0x7F | 0x80]), value >> 7
    return found + bytes([value])


def _field(number: int, *content: Any) -> bytes:
    """One field of a protocol buffer: a number, text, or fields within."""
    if isinstance(content[0], int):
        return _number(number << 3) + _number(content[0])
    raw = b"".join(part.encode() if isinstance(part, str) else part for part in content)
    return _number(number << 3 | 2) + _number(len(raw)) + raw


def _onnx(
    *,
    location: str = "weights.data",
    operator: str = "Gemm",
    domain: str = "",
    nested: bool = False,
) -> bytes:
    node = _field(1, _field(4, operator), _field(7, domain))
    entry = _field(13, _field(1, "location"), _field(2, location))
    graph = node + _field(5, _field(8, "w"), entry) + _field(2, "name")
    if nested:
        graph = _field(1, _field(4, "If"), _field(5, _field(1, "then_branch"), _field(6, graph)))
    return _field(1, 8) + _field(2, "made") + _field(7, graph)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    ("changes", "rule", "verdict"),
    [
        ({}, "onnx-external-data", Verdict.CLEAR),
        ({"location": "/etc/passwd"}, "onnx-external-data", Verdict.FLAGGED),
        ({"location": "a/../../b"}, "onnx-external-data", Verdict.FLAGGED),
        ({"location": "http://x/y"}, "onnx-external-data", Verdict.FLAGGED),
        ({"domain": "com.example"}, "onnx-custom-operator", Verdict.INCONCLUSIVE),
        ({"operator": "PyOp"}, "onnx-python", Verdict.FLAGGED),
        ({"domain": "ai.onnx.ml"}, "onnx-external-data", Verdict.CLEAR),
    ],
)
def test_onnx(
    changes: dict[str, str], rule: str, verdict: Verdict, nested: bool, tmp_path: Path
) -> None:
    found = scan_bytes(_onnx(**changes, nested=nested), tmp_path, "m.onnx")
    assert rule in rules(found)
    assert found.verdict is verdict, found.issues


def test_onnx_that_is_none(tmp_path: Path) -> None:
    whole = _onnx()
    for content in (whole[:-3], b"\xff" * 100, b"\x08\x08", whole[:20]):
        assert scan_bytes(content, tmp_path, "m.onnx").verdict is Verdict.INCONCLUSIVE
    assert scan_bytes(hostile(), tmp_path, "m.onnx").verdict is Verdict.FLAGGED


def _keras(layer: dict[str, Any]) -> bytes:
    config = {"module": "keras", "class_name": "Sequential", "config": {"layers": [layer]}}
    return zipped({"config.json": json.dumps(config).encode(), "metadata.json": b"{}"})


@pytest.mark.parametrize(
    ("layer", "verdict"),
    [
        ({"module": "keras.layers", "class_name": "Dense"}, Verdict.CLEAR),
        ({"module": "keras.layers", "class_name": "Lambda"}, Verdict.FLAGGED),
        ({"module": "keras.layers", "class_name": "TorchModuleWrapper"}, Verdict.FLAGGED),
        ({"module": "os", "class_name": "system"}, Verdict.FLAGGED),
        ({"module": "my.layers", "class_name": "Mine"}, Verdict.INCONCLUSIVE),
    ],
)
def test_keras(layer: dict[str, Any], verdict: Verdict, tmp_path: Path) -> None:
    assert scan_bytes(_keras(layer), tmp_path, "m.keras").verdict is verdict


def test_hdf5_is_searched_and_never_clear(tmp_path: Path) -> None:
    head = b"\x89HDF\r\n\x1a\n" + bytes(5 << 20)
    plain = scan_bytes(head, tmp_path, "m.h5")
    assert (plain.verdict, rules(plain)) == (Verdict.INCONCLUSIVE, {"not-examined"})
    for text in (
        b'{"class_name": "Lambda"}',
        b'{"class_name":"Lambda"}',
        b'{"class_name" :\n"Lambda"}',
        b'{"class_name": "L\\u0061mbda"}',
        b'{"class_name": "TorchModuleWrapper"}',
    ):
        assert scan_bytes(head + text, tmp_path, "m.h5").verdict is Verdict.FLAGGED, text
    dense = scan_bytes(head + b'{"class_name": "Dense"}', tmp_path, "m.h5")
    assert dense.verdict is Verdict.INCONCLUSIVE
    assert scan_bytes(bytes(512) + head, tmp_path, "m.h5").formats == ("hdf5",)


def test_tensorflow_and_yaml(tmp_path: Path) -> None:
    graph = _field(2, _field(1, _field(1, "node"), _field(2, "MatMul")))
    assert scan_bytes(graph, tmp_path, "m.pb").verdict is Verdict.INCONCLUSIVE
    graph += _field(2, _field(1, _field(2, "WriteFile")))
    assert scan_bytes(graph, tmp_path, "m.pb").verdict is Verdict.FLAGGED
    for text, verdict in (
        ("a: 1\n", Verdict.CLEAR),
        ("a: !!python/object/apply:os.getcwd []\n", Verdict.FLAGGED),
        ("_target_: os.getcwd\n", Verdict.FLAGGED),
        ("_target_: torch.optim.Adam\n", Verdict.INCONCLUSIVE),
        ("trust_remote_code: true\n", Verdict.FLAGGED),
        ("trust_remote_code: false\n", Verdict.CLEAR),
    ):
        assert scan_bytes(text.encode(), tmp_path, "m.yaml").verdict is verdict, text


def test_tables(tmp_path: Path) -> None:
    table = pa.table({"a": [1, 2]})
    for name, verdict in (("plain", Verdict.CLEAR), ("arrow.py_extension_type", Verdict.FLAGGED)):
        marked = table.replace_schema_metadata({"ARROW:extension:name": name})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pq.write_table(marked, tmp_path / "made.parquet")
        content = (tmp_path / "made.parquet").read_bytes()
        # The schema is stored a second time in base64; the plain copy is what is searched.
        assert scan_bytes(content, tmp_path, "a.parquet").verdict is verdict


def test_vocabularies_and_unread_formats(tmp_path: Path) -> None:
    vocabulary = b"".join(_field(1, _field(1, word)) for word in ("a", "b")) + b"\x15\0\0\0\0"
    assert scan_bytes(vocabulary, tmp_path, "tokenizer.model").verdict is Verdict.CLEAR
    assert scan_bytes(vocabulary[:-1], tmp_path, "s.model").verdict is Verdict.INCONCLUSIVE
    lite = struct.pack("<I", 28) + b"TFL3" + bytes(40)
    for name, content in (("a.tflite", lite), ("a.engine", b"\x01\x02"), ("a.ipynb", b"{}")):
        assert scan_bytes(content, tmp_path, name).verdict is Verdict.INCONCLUSIVE
