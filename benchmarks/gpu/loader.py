"""`cifar` as anybody writes it: a DataLoader, torchvision's transforms, .item() at each step."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.gpu.setting import n_cores
from benchmarks.gpu.steps import Speed, plan_of
from trainers.device import synchronize
from trainers.factories import load_factory

if TYPE_CHECKING:
    from trainers.loop import Classifier


class Images(Dataset[tuple[Tensor, int]]):
    """The train split as torchvision's CIFAR10 gives it, with the usual transforms."""

    def __init__(self, classifier: "Classifier") -> None:
        from torchvision import transforms

        splits = classifier.splits
        self.images = splits.images[splits.train].numpy()
        self.labels: list[int] = splits.labels[splits.train].tolist()
        mean, std = ((part / 255).tolist() for part in (splits.mean, splits.std))
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4, padding_mode="reflect"),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(mean, std),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[number])), self.labels[number]


def plain_loop(classifier: "Classifier", seconds: float, go: Callable[[], None]) -> Speed:
    """Measure it, in rounds of an epoch; the first one starts the loader's processes."""
    task, device, on_gpu = classifier.task, classifier.device, classifier.kind == "cuda"
    workers = min(8, n_cores()) if on_gpu else 0
    loader = DataLoader(
        Images(classifier),
        batch_size=task.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        pin_memory=on_gpu,
        persistent_workers=workers > 0,
    )
    model = load_factory(task.model)()
    model.to(device=device, memory_format=classifier.memory_format)
    optimizer = task.build_optimizer(model)
    scheduler = plan_of(classifier).scheduler(optimizer)

    def epoch() -> float:
        begin = time.perf_counter()
        for images, labels in loader:
            x, y = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
            with classifier.autocast():
                outputs = model(x)
            loss = classifier.loss(outputs, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            loss.item()  # printed by many
        synchronize(classifier.kind)
        return len(loader) * task.batch_size / (time.perf_counter() - begin)

    started = time.perf_counter()
    epoch()
    warm_up_s = time.perf_counter() - started
    go()
    rounds, begin = [epoch()], time.perf_counter()
    while time.perf_counter() - begin < seconds:
        rounds.append(epoch())
    return Speed(rounds=rounds, overall=None, warm_up_s=warm_up_s)
