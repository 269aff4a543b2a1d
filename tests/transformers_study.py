"""A short Transformers study that draws much: order, dropout, a batch size, masked words."""

from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification

from studies.definition import Confirmation, RangeTest, Screening, Space, Study
from trainers.adapters.transformers import TransformersTraining


class Sentences(Dataset[Any]):
    """Sentences of six words, of which each time a random one is masked."""

    def __init__(self, n: int, seed: int, *, masks: bool = False) -> None:
        self.words = torch.randint(1, 20, (n, 6), generator=torch.Generator().manual_seed(seed))
        self.masks = masks

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, index: int) -> Any:
        words = self.words[index].clone()
        label = int(words[0] > 9)
        if self.masks:
            words[1 + torch.randint(5, ())] = 0
        return {"input_ids": words, "labels": label}


def model(dropout: float = 0.1) -> Any:
    """Return a tiny random BERT."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(vocab_size=20, intermediate_size=16, hidden_dropout_prob=dropout, **sizes)
    return BertForSequenceClassification(config)


def study(n_workers: int = 0) -> Study:
    """Return the study, whose train loader has so many processes."""
    return Study(
        name="sentences",
        task=TransformersTraining(
            model=model,
            args={
                "per_device_train_batch_size": 8,
                "gradient_accumulation_steps": 2,
                "dataloader_num_workers": n_workers,
            },
            train=Sentences(320, 0, masks=True),
            evaluation={"validation": Sentences(64, 1), "test": Sentences(65, 2)},
        ),
        epochs=4,
        space=Space(max_lr=(1e-3, 1e-1), batch_size=(16, 32), extra={"dropout": (0.0, 0.5)}),
        range_test=RangeTest(n_sweeps=0),
        screening=Screening(n_trials=2, n_initial=1),
        confirmation=Confirmation(n_finalists=1, n_seeds=2),
    )


STUDY = study()
