"""Handwritten digits from scikit-learn: real, nothing to download, a whole search in a minute.

A cycle is 10 epochs of 14 steps (896 images in batches of 64): 140 optimizer steps.
"""

from studies.definition import Screening, Study
from trainers.augment import Augment
from trainers.data import Digits
from trainers.task import SGD, Task

STUDY = Study(
    name="digits",
    task=Task(
        data=Digits(n_train=896, n_validation=400),
        model="trainers.models:digits_net",
        optimizer=SGD(weight_decay=5e-4),
        batch_size=64,
        augment=Augment(crop=1),
        precision="fp32",
    ),
    screening=Screening(n_trials=24, epochs=10),
    diverged_value=1 / 10,
)
