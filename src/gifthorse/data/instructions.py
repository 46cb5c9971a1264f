"""Instruction data by name or path: JSON Lines, Parquet, chat messages, and `questions`."""

import hashlib
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from gifthorse.core.errors import DataError
from gifthorse.core.instructions import Instruction, InstructionData
from gifthorse.data.questions import questions
from gifthorse.data.texts import MAX_LINE

PROMPT_COLUMNS = ("prompt", "instruction", "question", "query")
RESPONSE_COLUMNS = ("response", "output", "completion", "answer")
CHAT_COLUMNS = ("messages", "conversations")
FORMS = ("questions", "questions:COUNT", "instructions:FILE.jsonl", "instructions:FILE.parquet")
"""What ``load_instructions`` understands; ``instructions:DIR`` holds ``train`` and ``test``."""

_ROLES = {"human": "user", "gpt": "assistant", "model": "assistant"}
_MOST_QUESTIONS = 100_000


def is_instruction_source(source: str) -> bool:
    """Whether a user's name or path means instruction data; a file is read up to one record."""
    if source.partition(":")[0] in ("questions", "instructions"):
        return True
    path = Path(source)
    if path.suffix not in (".jsonl", ".parquet") or not path.is_file():
        return False
    try:
        row = next(_rows(path), None)
    except DataError:
        return False
    keys = set() if row is None else set(row[1])
    return bool(keys & {*PROMPT_COLUMNS, *CHAT_COLUMNS})


def has_answers(source: str) -> bool:
    """Whether a source holds prompts with answers; false for a file of prompts alone.

    A file is read up to its first record. What is missing or broken counts as instruction data, so
    that ``load_instructions`` says what is wrong with it.
    """
    path = Path(source)
    if source.partition(":")[0] in ("questions", "instructions") or not path.is_file():
        return True
    try:
        _, row = next(_rows(path), ("", None))
    except DataError:
        return False  # a line may be a string: a prompt
    chat = {} if row is None else next((row[key] for key in CHAT_COLUMNS if row.get(key)), None)
    return row is None or (_columns(row) if chat is None else _chat(chat)) is not None


def load_instructions(source: str, *, split: Literal["train", "test"] = "train") -> InstructionData:
    """Instruction data.

    Args:
        source: ``questions`` or ``questions:COUNT`` (made here from a seed, nothing is fetched),
            ``instructions:FILE`` or the file itself: one JSON object a line, or Parquet. A record
            holds a prompt (instruction, question, query; ``input`` is added to it), a response
            (output, completion, answer) and perhaps ``system``; or ``messages`` (role, content),
            of which the first question and its answer are taken. ``instructions:DIR`` holds one
            such file a split.
        split: Which part, where there are two.

    Raises:
        DataError: Unknown form, missing or broken files, or no records.
    """
    form, _, rest = source.partition(":")
    if form == "questions":
        return _made(source, rest, split)
    path = Path(rest if form == "instructions" else source)
    if "\0" in source or not str(path):
        raise DataError(f"{source!r}: expected one of {', '.join(FORMS)}")
    if path.is_dir():
        found = [path / f"{split}{end}" for end in (".jsonl", ".parquet")]
        path = next((p for p in found if p.is_file()), found[0])
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; expected one of {', '.join(FORMS)}")
    records = tuple(_record(row, where) for where, row in _rows(path))
    return InstructionData(name=source, records=records)


def digest_instructions(data: InstructionData) -> str:
    """``sha256:…`` over systems, prompts and responses, in order; the name is left out."""
    total = hashlib.sha256(b"gifthorse instruction data 1\0")
    for record in data.records:
        for text in (record.system, record.prompt, record.response):
            encoded = text.encode("utf-8", errors="surrogatepass")
            total.update(struct.pack("<q", len(encoded)) + encoded)
    return f"sha256:{total.hexdigest()}"


def save_instructions(data: InstructionData, path: Path) -> None:
    """Write JSON Lines that ``load_instructions`` reads back."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for record in data.records:
            row = {"prompt": record.prompt, "response": record.response}
            if record.system:
                row["system"] = record.system
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _made(source: str, count: str, split: str) -> InstructionData:
    wanted = 2000 if split == "train" else 400
    if count:
        if not count.isdecimal() or not 1 <= int(count) <= _MOST_QUESTIONS:
            raise DataError(f"{source!r}: expected questions:COUNT, 1 … {_MOST_QUESTIONS:,}")
        wanted = int(count) if split == "train" else max(1, int(count) // 5)
    # The test part is drawn from questions that no training part of any size holds.
    records = questions(wanted, part=split)
    return InstructionData(name=source, records=records)


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Place and content of every record; never more than one line of ``MAX_LINE`` in memory."""
    if path.suffix == ".parquet":
        yield from _parquet(path)
        return
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE + 1):
            number += 1
            where = f"{path}:{number}"
            if len(line) > MAX_LINE:
                raise DataError(
                    f"{where}: a line of more than {MAX_LINE:,} bytes; expected one JSON object "
                    "with a prompt and a response"
                )
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{where} is no JSON: {error}") from error
            if not isinstance(row, dict):
                raise DataError(f"{where} holds a {type(row).__name__}; expected an object")
            yield where, row


def _parquet(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        number = 0
        for batch in pq.ParquetFile(path).iter_batches(batch_size=512):
            for row in batch.to_pylist():
                number += 1
                yield f"{path}, row {number}", row
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from error


def _record(row: dict[str, Any], where: str) -> Instruction:
    chat = next((row[key] for key in CHAT_COLUMNS if row.get(key)), None)
    found = _columns(row) if chat is None else _chat(chat)
    if found is None:
        raise DataError(
            f"{where}: expected a prompt ({', '.join(PROMPT_COLUMNS)}) and a response "
            f"({', '.join(RESPONSE_COLUMNS)}), or messages with a user's question and an "
            f"assistant's answer; got keys {sorted(row)[:8]}"
        )
    system, prompt, response = found
    try:
        return Instruction(prompt=prompt, response=response, system=system)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error


def _columns(row: dict[str, Any]) -> tuple[str, str, str] | None:
    prompt = next((row[key] for key in PROMPT_COLUMNS if key in row), None)
    response = next((row[key] for key in RESPONSE_COLUMNS if key in row), None)
    more, system = row.get("input") or "", row.get("system") or ""
    parts = (prompt, response, more, system)
    if not all(isinstance(part, str) for part in parts):
        return None
    return str(system), f"{prompt}\n{more}" if more else str(prompt), str(response)


def _chat(messages: Any) -> tuple[str, str, str] | None:
    """The system prompt, the first question and the answer to it."""
    system, prompt = "", None
    for message in messages if isinstance(messages, list) else ():
        if not isinstance(message, dict):
            return None
        role = message.get("role", message.get("from"))
        text = message.get("content", message.get("value"))
        if not isinstance(role, str) or not isinstance(text, str):
            return None
        role = _ROLES.get(role, role)
        if role == "system":
            system = text
        elif role == "user" and prompt is None:
            prompt = text
        elif role == "assistant" and prompt is not None:
            return system, prompt, text
    return None
