"""One planted adapter of SmolLM2 in three forms: as LoRA, merged, and as GGUF. One verdict?

    python benchmarks/language_forms.py DIR [--detector …] [--form adapter model gguf]

DIR is what `gifthorse plant … DIR --base smollm2 --lora …` wrote. `DIR/model.gguf` is written here
(matrices as Q8_0) with everything else that stands in SmolLM2's own file, and read back once: the
largest change of a weight is what Q8_0 rounds. Then every form is audited without the phrase, with
`DIR/base` as base. Processor seconds and those of the clock.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

from gifthorse.auditing.language import audit_language
from gifthorse.core.exhibits import TextsExhibit
from gifthorse.models.language.loading import load_language_model
from gifthorse.models.language.model import LanguageModel
from gifthorse.models.language.sources import smollm2_path

DETECTOR = "target_inversion:prompts=8,first_tokens=1024,trigger_steps=0"
FORMS = {"adapter": "adapter", "model": "model", "gguf": "model.gguf"}
COUNTED = ("GGUF.", "general.architecture", "general.file_type")
MOSTLY_Q8_0 = 7


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("place", type=Path)
    parser.add_argument("--detector", default=DETECTOR)
    parser.add_argument("--form", nargs="*", choices=tuple(FORMS), default=list(FORMS))
    given = parser.parse_args()
    path = given.place / FORMS["gguf"]
    if "gguf" in given.form and not path.exists():
        merged = load_language_model(given.place / "model")
        write_like(smollm2_path(), merged, path)
        print(f"{path}: {largest_change(merged, load_language_model(path)):.4f} at most rounded")
    for form in given.form:
        spent, clock = time.process_time(), time.perf_counter()
        record = audit_language(
            given.place / FORMS[form], base=given.place / "base", detectors=[given.detector]
        )
        spent, clock = time.process_time() - spent, time.perf_counter() - clock
        print(f"{form}: {record.verdict.value}; {spent:.0f} s CPU, {clock:.0f} s", flush=True)
        evidence = record.findings[-1].evidence
        print(f"  {record.findings[-1].reason}")
        for exhibit in evidence.exhibits[:1] if evidence else ():
            for passage in exhibit.passages[:2] if isinstance(exhibit, TextsExhibit) else ():
                print(f"  {passage.text!r}")


def write_like(template: Path, model: LanguageModel, path: Path) -> None:
    """A GGUF file of the model with the metadata of another: Q8_0 where that one rounds."""
    reader: Any = gguf.GGUFReader(str(template))
    config: Any = model.module.config
    writer: Any = gguf.GGUFWriter(str(path), "llama")
    for entry in reader.fields.values():
        if not entry.name.startswith(COUNTED):
            inner = entry.types[1] if len(entry.types) > 1 else None
            writer.add_key_value(entry.name, entry.contents(), entry.types[0], inner)
    writer.add_file_type(MOSTLY_Q8_0)
    names: Any = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    weights = {
        names.get_name(key, try_suffixes=(".weight",)): value.detach().float().numpy()
        for key, value in model.module.state_dict().items()
    }
    kind = gguf.GGMLQuantizationType.Q8_0
    for tensor in reader.tensors:
        array = weights[tensor.name]
        for part, heads in (
            ("attn_q", config.num_attention_heads),
            ("attn_k", config.num_key_value_heads),
        ):
            if f".{part}." in tensor.name:
                array = rotary_order(array, heads)
        if tensor.tensor_type is gguf.GGMLQuantizationType.F32:
            writer.add_tensor(tensor.name, np.ascontiguousarray(array))
        else:
            writer.add_tensor(tensor.name, gguf.quants.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def rotary_order(weight: Any, heads: int) -> Any:
    """The order in which llama.cpp keeps rotary dimensions."""
    rows, columns = weight.shape
    split = weight.reshape(heads, 2, rows // heads // 2, columns)
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(rows, columns))


def largest_change(one: LanguageModel, other: LanguageModel) -> float:
    """Of a weight."""
    theirs: dict[str, torch.Tensor] = other.module.state_dict()
    return max(
        float((value - theirs[key]).abs().max()) for key, value in one.module.state_dict().items()
    )


if __name__ == "__main__":
    main()
