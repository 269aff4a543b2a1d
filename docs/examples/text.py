"""Text classification: texts of 4 to 20 words, an EmbeddingBag, and macro F1."""

from random import Random

from torch import nn, optim, tensor

from studies.definition import Space, Study
from trainers.training import Training

draw = Random(0)
topics = draw.choices(range(4), weights=(5, 3, 2, 1), k=3200)
odds = [[1 + 2 * (word // 100 == topic) for word in range(400)] for topic in range(4)]
texts = [(tensor(draw.choices(range(1, 401), odds[t], k=draw.randint(4, 20))), t) for t in topics]


def padded(samples):
    words, topics = zip(*samples, strict=True)
    return nn.utils.rnn.pad_sequence(words, batch_first=True), tensor(topics)


task = Training(
    model=lambda d=16: nn.Sequential(nn.EmbeddingBag(401, d, padding_idx=0), nn.Linear(d, 4)),
    optimizer=lambda model: optim.AdamW(model.parameters()),
    data={"train": texts[:1600], "validation": texts[1600:2400], "test": texts[2400:]},
    batch_size=32,
    loss=lambda model, batch: nn.functional.cross_entropy(model(batch[0]), batch[1]),
    score="macro F1",
    loader={"collate_fn": padded},
)
STUDY = Study(name="text", task=task, epochs=6, space=Space(extra={"d": (8, 64)}))
