"""Photos of any size in `train/` and `val/`, without a test split: one is cut from `train/`.

python -m search.run --study docs/examples/photos.py --data FOLDER
"""

from studies.definition import Screening, Study
from trainers.augment import Augment
from trainers.data import ImageFolder
from trainers.task import Task

STUDY = Study(
    name="photos",
    task=Task(
        data=ImageFolder(size=32),
        model="trainers.models:small_cnn",
        batch_size=32,
        augment=Augment(flip=True),
    ),
    screening=Screening(n_trials=12, epochs=10),
    diverged_value=0.1,
)
