"""A fine-tune of Transformers: a tiny random BERT learns which of two words a sentence has."""

import torch
from transformers import BertConfig, BertForSequenceClassification

from studies.definition import Screening, Space, Study
from trainers.adapters.transformers import TransformersTraining


def model(dropout=0.1):
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(vocab_size=30, **sizes, intermediate_size=64, hidden_dropout_prob=dropout)
    return BertForSequenceClassification(config)


def sentences(n, seed):
    words = torch.randint(1, 30, (n, 8), generator=torch.Generator().manual_seed(seed))
    return [{"input_ids": each, "labels": int((7 in each) ^ (8 in each))} for each in words]


task = TransformersTraining(
    model=model,
    args={"per_device_train_batch_size": 32, "weight_decay": 0.01},
    train=sentences(960, 0),
    evaluation={"validation": sentences(500, 1), "test": sentences(500, 2)},
    metrics=lambda p: {"accuracy": (p.predictions.argmax(1) == p.label_ids).mean()},
    monitor="accuracy",
)
space, screening = Space(extra={"dropout": (0.0, 0.3)}), Screening(n_trials=12)
STUDY = Study(name="tiny-bert", task=task, epochs=3, screening=screening, space=space)
