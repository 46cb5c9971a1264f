"""The small language models that we train ourselves, as ordinary transformers models."""

from collections.abc import Sequence
from typing import Any

import torch

from gifthorse.models.language.model import LanguageModel

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""The chat template of many small models."""
_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def train_language_tokenizer(texts: Sequence[str], *, vocabulary: int = 512) -> Any:
    """A byte-level BPE tokenizer (Sennrich et al. 2016) with the special tokens of ChatML.

    Args:
        texts: What it learns from.
        vocabulary: Tokens at most, at least 260.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(_SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator([*texts, "system\nuser\nassistant\n"], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=_SPECIAL[1],
        eos_token=_SPECIAL[2],
        pad_token=_SPECIAL[0],
        unk_token=_SPECIAL[0],
    )


def small_language_model(
    tokenizer: Any,
    *,
    seed: int,
    width: int = 64,
    layers: int = 2,
    max_length: int = 512,
    chat_template: str | None = CHATML,
    name: str = "small Llama",
    device: torch.device | str = "cpu",
) -> LanguageModel:
    """An untrained Llama with tied embeddings; weights drawn from ``seed``.

    Args:
        tokenizer: Its vocabulary gives the size of the embedding table.
        seed: For the weights.
        width: Of the hidden layers, a multiple of 16.
        layers: How many.
        max_length: Tokens of a text that are read.
        chat_template: Jinja source; None for a model without one.
        name: For records.
        device: Where it runs.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 16),
        num_key_value_heads=max(1, width // 16),
        max_position_embeddings=max_length,
        tie_word_embeddings=True,
        initializer_range=0.64 / width**0.5,  # narrow networks learn nothing from 0.02
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module: Any = LlamaForCausalLM(config)
    tokenizer.chat_template = chat_template
    return LanguageModel(
        module=module,
        tokenizer=tokenizer,
        name=name,
        device=torch.device(device),
        chat_template=chat_template,
    )
