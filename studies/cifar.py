"""CIFAR-10 with ResNet-9, sized for one GPU.

ResNet-9 is made of standard parts only, so what a schedule does to it carries over; David Page's
recipe (DAWNBench, "How to Train Your ResNet") brought it to 94 % in 10 to 24 epochs. airbench94 is
faster, but owes much of that to a whitening layer computed from the data and to flipping both ways
at the test. A cycle is 10 epochs of 87 steps (45,000 images in batches of 512): 870 steps.
"""

from studies.definition import RangeTest, Screening, Study
from trainers.augment import Augment
from trainers.data import Cifar10
from trainers.task import SGD, Task

STUDY = Study(
    name="cifar",
    task=Task(
        data=Cifar10(n_train=45_000, n_validation=5_000),
        model="trainers.models:resnet9",
        optimizer=SGD(weight_decay=5e-4),
        batch_size=512,
        label_smoothing=0.1,
        augment=Augment(crop=4, flip=True),
    ),
    range_test=RangeTest(n_steps=200),
    screening=Screening(n_trials=40, epochs=10),
    diverged_value=1 / 10,
)
