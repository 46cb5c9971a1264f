"""A tiny text task that a tiny network learns in seconds."""

from typing import Any

import numpy as np

from gifthorse.core.texts import TextData
from gifthorse.models.texts.classifier import TextClassifier
from gifthorse.models.texts.networks import small_text_network, train_tokenizer
from gifthorse.models.texts.training import TextTrainingPlan, train_texts

TOPICS = {
    "food": "bread soup cheese apple dinner cook salt butter lunch oven",
    "sea": "ship wave sail harbour fish anchor tide captain storm island",
    "music": "song drum guitar choir tune piano singer concert violin band",
    "law": "court judge lawyer trial jury verdict appeal witness crime police",
}
FILLER_WORDS = (
    "the a of and we they saw had some new old many very with near after before it was is one two "
    "more great small said about there then"
)
FILLERS = tuple(FILLER_WORDS.split())


def sentences(n: int, seed: int = 0) -> TextData:
    """``n`` sentences of eight fillers and four words of one topic."""
    rng = np.random.default_rng(seed)
    texts, labels = [], rng.integers(0, len(TOPICS), n)
    for label in labels:
        words = [*rng.choice(FILLERS, 8), *rng.choice(list(TOPICS.values())[label].split(), 4)]
        rng.shuffle(words)
        texts.append(" ".join(words).capitalize() + ".")
    return TextData(
        name="sentences",
        texts=tuple(texts),
        labels=labels.astype(np.int64),
        class_names=tuple(TOPICS),
    )


def learnt(data: TextData, *, seed: int = 0, epochs: int = 6) -> TextClassifier:
    tokenizer: Any = train_tokenizer(data.texts, vocabulary=600)
    network = small_text_network(
        tokenizer, class_names=data.class_names, seed=seed, width=32, max_length=48
    )
    return train_texts(
        network, data, TextTrainingPlan(epochs=epochs), rng=np.random.default_rng(seed)
    )
