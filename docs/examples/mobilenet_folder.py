"""torchvision's MobileNetV3 on a folder of images, which is split for you.

    python -m search.run --study docs/examples/mobilenet_folder.py --data FOLDER

FOLDER holds one folder of images per class. The net's own BatchNorm has a momentum of 0.01, which
needs some 300 steps; torch's has 0.1, and a small folder makes short cycles.
"""

from torch.nn import BatchNorm2d
from torchvision.models import mobilenet_v3_small
from torchvision.transforms import v2

from studies.definition import Screening, Study
from trainers.data import ImageFolder
from trainers.task import AdamW, Task

STUDY = Study(
    name="mobilenet-folder",
    task=Task(
        data=ImageFolder(size=48, skip_broken=True),
        model=lambda: mobilenet_v3_small(num_classes=3, norm_layer=BatchNorm2d),
        batch_size=32,
        optimizer=AdamW(weight_decay=0.05),
        augment=v2.RandomAffine(degrees=10, translate=(0.1, 0.1)),
    ),
    screening=Screening(n_trials=12, epochs=10),
    diverged_value=1 / 3,
)
