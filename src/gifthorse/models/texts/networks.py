"""The small text classifiers that we train ourselves, as ordinary transformers models."""

from collections.abc import Sequence
from typing import Any

import torch

from gifthorse.models.texts.classifier import TextClassifier


def train_tokenizer(texts: Sequence[str], *, vocabulary: int = 4000) -> Any:
    """A byte-level BPE tokenizer (Sennrich et al. 2016) that keeps case, spaces and every letter.

    Args:
        texts: What it learns from.
        vocabulary: Tokens at most, at least 300.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        unk_token="[UNK]",
    )


def small_text_network(
    tokenizer: Any,
    *,
    class_names: tuple[str, ...],
    seed: int,
    width: int = 64,
    max_length: int = 64,
    name: str = "small DistilBERT",
    device: torch.device | str = "cpu",
) -> TextClassifier:
    """An untrained DistilBERT of two layers; weights drawn from ``seed``.

    Args:
        tokenizer: Its vocabulary gives the size of the embedding table.
        class_names: One name a class.
        seed: For the weights.
        width: Of the hidden layers, a multiple of 16.
        max_length: Tokens of a text that are read.
        name: For records.
        device: Where it runs.
    """
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    config = DistilBertConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=max_length,
        n_layers=2,
        n_heads=max(1, width // 16),
        dim=width,
        hidden_dim=2 * width,
        pad_token_id=tokenizer.pad_token_id,
        id2label=dict(enumerate(class_names)),
        label2id={label: i for i, label in enumerate(class_names)},
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module: Any = DistilBertForSequenceClassification(config)
    return TextClassifier(
        module,
        tokenizer,
        class_names=class_names,
        max_length=max_length,
        name=name,
        device=device,
    )
