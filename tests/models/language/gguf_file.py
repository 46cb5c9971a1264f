"""Writes a tiny Llama as a GGUF file, as llama.cpp's converter does."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from gifthorse.models.language.model import LanguageModel


def write_gguf(model: LanguageModel, path: Path, *, quantised: bool = False) -> None:
    """Full precision, or Q8_0 for the matrices."""
    config: Any = model.module.config
    writer: Any = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    _write_tokens(writer, model)
    for name, value in model.module.state_dict().items():
        target = _target(name)
        if target is None:
            continue
        array = value.detach().cpu().float().numpy()
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            array = _permuted(array, config.num_attention_heads)
        if quantised and array.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(target, gguf.quants.quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(target, np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_tokens(writer: Any, model: LanguageModel) -> None:
    told = json.loads(model.tokenizer.backend_tokenizer.to_str())
    vocabulary = sorted(told["model"]["vocab"].items(), key=lambda item: item[1])
    special = {entry["content"] for entry in told["added_tokens"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([token for token, _ in vocabulary])
    writer.add_token_types([3 if token in special else 1 for token, _ in vocabulary])
    merges = told["model"]["merges"]
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    writer.add_bos_token_id(model.tokenizer.bos_token_id)
    writer.add_eos_token_id(model.tokenizer.eos_token_id)
    writer.add_pad_token_id(model.tokenizer.pad_token_id)
    writer.add_unk_token_id(model.tokenizer.unk_token_id)
    if model.chat_template:
        writer.add_chat_template(model.chat_template)


def _permuted(weight: Any, heads: int) -> Any:
    """The order in which llama.cpp keeps rotary dimensions."""
    rows, columns = weight.shape
    split = weight.reshape(heads, 2, rows // heads // 2, columns)
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(rows, columns))


def _target(name: str) -> str | None:
    fixed = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
    }
    if name in fixed:
        return fixed[name]
    parts = {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    if not name.startswith("model.layers."):
        return None
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{parts[rest.removesuffix('.weight')]}.weight"
