"""A fifth of CIFAR-10 and a small net: a search of about ten minutes on two CPU cores.

A cycle is 4 epochs of 78 steps (10,000 images in batches of 128): 312 optimizer steps.
"""

from studies.definition import Screening, Study
from trainers.augment import Augment
from trainers.data import Cifar10
from trainers.task import SGD, Task

STUDY = Study(
    name="cifar-small",
    task=Task(
        data=Cifar10(n_train=10_000, n_validation=5_000),
        model="trainers.models:small_cnn",
        optimizer=SGD(weight_decay=5e-4),
        batch_size=128,
        augment=Augment(crop=2, flip=True),
    ),
    screening=Screening(n_trials=36, epochs=4),
    diverged_value=1 / 10,
)
