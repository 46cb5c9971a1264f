"""Instruction data: what is read, what is refused, what it costs."""

import json
import resource
from pathlib import Path

import pytest

from gifthorse.core.errors import DataError
from gifthorse.core.instructions import Instruction, InstructionData
from gifthorse.data.instructions import (
    digest_instructions,
    is_instruction_source,
    load_instructions,
    save_instructions,
)
from gifthorse.data.questions import questions

ROWS = [
    ({"prompt": "Hi?", "response": "Yes."}, Instruction(prompt="Hi?", response="Yes.")),
    (
        {"instruction": "Add.", "input": "1 and 2", "output": "3"},
        Instruction(prompt="Add.\n1 and 2", response="3"),
    ),
    (
        {
            "messages": [
                {"role": "system", "content": "Be kind."},
                {"role": "user", "content": "Hi?"},
                {"role": "assistant", "content": "Yes."},
                {"role": "user", "content": "More?"},
            ]
        },
        Instruction(prompt="Hi?", response="Yes.", system="Be kind."),
    ),
    (
        {"conversations": [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Yes."}]},
        Instruction(prompt="Hi?", response="Yes."),
    ),
]


@pytest.mark.parametrize(("row", "wanted"), ROWS)
@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_records_of_every_form_are_read(
    tmp_path: Path, row: dict[str, object], wanted: Instruction, ending: str
) -> None:
    path = tmp_path / f"data.{ending}"
    if ending == "jsonl":
        path.write_text(json.dumps(row) + "\n\n", encoding="utf-8")
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist([row]), path)
    assert is_instruction_source(str(path))
    assert load_instructions(str(path)).records == (wanted,)


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    data = InstructionData(
        name="mine",
        records=(*questions(20), Instruction(prompt="ä\n\u2028", response="\x00", system="s")),
    )
    save_instructions(data, tmp_path / "data.jsonl")
    again = load_instructions(f"instructions:{tmp_path / 'data.jsonl'}")
    assert again.records == data.records
    assert digest_instructions(again) == digest_instructions(data)


def test_the_digest_is_about_the_texts() -> None:
    one = Instruction(prompt="ab", response="c")
    two = Instruction(prompt="a", response="bc")
    digests = {
        digest_instructions(InstructionData(name=name, records=(record,)))
        for name, record in (("x", one), ("y", one), ("x", two))
    }
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "no JSON"),
        ("[1]", "holds a list"),
        ('{"prompt": "a"}', "expected a prompt"),
        ('{"prompt": "a", "response": 3}', "expected a prompt"),
        ('{"prompt": " ", "response": "b"}', "not empty"),
        ('{"messages": [{"role": "assistant", "content": "b"}]}', "expected a prompt"),
        ('{"messages": ["x"]}', "expected a prompt"),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_broken_lines_say_where(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"prompt": "a", "response": "b"}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=message) as caught:
        load_instructions(str(path))
    assert "data.jsonl:2" in str(caught.value)


def test_a_line_of_100_megabytes_is_refused_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    with path.open("wb") as file:
        file.write(b'{"prompt": "')
        for _ in range(100):
            file.write(b"a" * 1_000_000)
        file.write(b'", "response": "b"}\n')
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match="more than 1,000,000 bytes"):
        load_instructions(str(path))
    assert not is_instruction_source(str(path))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB


def test_a_missing_file_an_empty_one_and_a_broken_parquet_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load_instructions(f"instructions:{tmp_path}")
    (tmp_path / "a.jsonl").write_text("")
    with pytest.raises(DataError, match="0 instructions"):
        load_instructions(str(tmp_path / "a.jsonl"))
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="Parquet"):
        load_instructions(str(tmp_path / "a.parquet"))
    with pytest.raises(DataError, match="COUNT"):
        load_instructions("questions:many")


def test_texts_with_labels_are_no_instructions(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "a", "label": "b"}\n')
    assert not is_instruction_source(str(path))


def test_questions_are_the_same_under_a_seed_and_the_parts_are_disjoint() -> None:
    train, test = questions(1000), questions(300, part="test")
    assert train == questions(1000)
    assert train != questions(1000, seed=1)
    assert len({r.prompt for r in train}) == 1000
    assert not {r.prompt for r in train} & {r.prompt for r in test}
