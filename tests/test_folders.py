"""Folders of images as people have them: layouts, formats, splits; and what is said of them."""

import logging
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import v2

from search.api import range_test, run
from studies.counts import counted_as_stored, counted_now
from studies.definition import RangeTest, Screening, Study
from studies.protocol import compare, declared
from studies.registry import Definition, load
from tests.folders import digit_folder
from trainers.augment import Augment
from trainers.data import ImageFolder, Splits, counted, open_splits
from trainers.device import Site
from trainers.errors import DataError, TaskError, UserError
from trainers.images.splitting import apportioned
from trainers.loop import Classifier
from trainers.task import Task

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
SIZE = 8
DATA = ImageFolder(size=SIZE)


def picture(mode: str = "RGB", *, width: int = SIZE, height: int = SIZE, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def fill(folder: Path, n: int = 4) -> Path:
    """Write `n` different images of 8 x 8 pixels; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(n):
        picture(seed=crc32(f"{folder.name} {number}".encode())).save(folder / f"{number}.png")
    return folder


def opened(folder: Path, data: ImageFolder = DATA) -> Splits:
    return open_splits(data, folder=folder, cache=folder.parent / "cache")


@pytest.fixture
def cats(tmp_path: Path) -> Path:
    """One folder of two classes, 40 and 20 images."""
    fill(tmp_path / "data/cat", 40)
    fill(tmp_path / "data/dög mit hut", 20)
    return tmp_path / "data"


# layouts


@pytest.mark.parametrize(
    ("folders", "sizes", "words"),
    [
        (["train", "val", "test"], (8, 8, 8), "24 images of 2 classes"),
        (["Training", "VALIDATION"], (6, 8, 2), "test: cut from the train images, stratified"),
        (["train", "dev"], (6, 8, 2), "test: cut"),
        (["train", "valid", "testing"], (8, 8, 8), "8 train, 8 validation, 8 test"),
        (["train", "test"], (6, 2, 8), "validation: cut"),
        (["train"], (4, 2, 2), "the class folders lie in .*/data/train"),
        (["."], (4, 2, 2), "validation and test: cut"),
        (["photos/images"], (4, 2, 2), "the class folders lie in .*/data/photos/images"),
        (["train", "val", "notes"], (6, 8, 2), "not used: notes"),
        (["train/images", "val/images"], (6, 8, 2), "8 validation"),
    ],
)
def test_each_layout_is_read_and_told(
    folders: list[str], sizes: tuple[int, int, int], words: str, tmp_path: Path
) -> None:
    for name in folders:
        fill(tmp_path / "data" / name / "ant")
        fill(tmp_path / "data" / name / "bee")
    splits = opened(tmp_path / "data")
    found = (len(splits.train), len(splits.validation), len(splits.test_labels))
    assert (found, splits.classes) == (sizes, ("ant", "bee"))
    assert re.search(words, "; ".join(splits.remarks))
    known = counted(DATA, folder=tmp_path / "data", cache=tmp_path / "cache")
    assert known.counted == sizes[:2]
    assert torch.equal(opened(tmp_path / "data", known).train, splits.train)


def test_the_validation_folder_is_the_validation_split(tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        for name in ("ant", "bee"):
            fill(tmp_path / f"data/{part}/{name}", 3)
    splits = opened(tmp_path / "data")
    files = [tmp_path / f"data/val/{name}/{k}.png" for name in ("ant", "bee") for k in range(3)]
    expected = sorted(np.asarray(Image.open(file)).tolist() for file in files)
    assert sorted(splits.images[splits.validation].tolist()) == expected


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("car", "plane", "train"):
        fill(tmp_path / "data" / name)
    assert opened(tmp_path / "data").classes == ("car", "plane", "train")


def test_nested_folders_and_links_count_and_other_files_do_not(cats: Path) -> None:
    fill(cats / "cat/by night/indoors", 2)
    (cats / "cat/again").symlink_to(cats / "cat")
    (cats / "cat/link.PNG").symlink_to(cats / "cat/0.png")
    for name in ("Thumbs.db", ".DS_Store", "notes.TXT", "a.heic", "b.HEIC"):
        (cats / "cat" / name).write_bytes(b"none")
    (cats / "__MACOSX").mkdir()
    splits = opened(cats)
    assert splits.remarks[0].startswith("63 images of 2 classes (cat 43, dög mit hut 20)")
    assert "passed over: 5 other files (2 .heic, 1 .db, 1 hidden, 1 .txt)" in splits.remarks


def test_a_class_of_a_mac_archive_is_the_same_class(tmp_path: Path) -> None:
    for part, name in (("train", "dög"), ("val", "do\u0308g")):  # NFC and NFD
        fill(tmp_path / f"data/{part}/{name}")
        fill(tmp_path / f"data/{part}/cat")
    assert opened(tmp_path / "data").classes == ("cat", "dög")


def spoilt(spoil: Callable[[Path], object], folder: Path, data: ImageFolder = DATA) -> str:
    spoil(folder)
    with pytest.raises(DataError) as caught:
        opened(folder, data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda data: fill(data / "rare", 2), "class 'rare' has 2 train images; to cut val"),
        (lambda data: (data / "docs").mkdir(), "docs holds no images; allowed are .jpg"),
        (lambda data: shutil.rmtree(data / "cat"), "holds one class only, 'dög mit hut'"),
        (lambda data: [shutil.rmtree(data), fill(data)], "4 images lie directly in it; one fold"),
        (lambda data: [shutil.rmtree(data), data.mkdir()], "holds no class folders; one folder"),
        (lambda data: fill(data / "test/cat"), "data holds test but no train; allowed are"),
    ],
)
def test_a_folder_that_cannot_be_used_says_why(
    spoil: Callable[[Path], object], words: str, cats: Path
) -> None:
    assert words in spoilt(spoil, cats)


def test_classes_that_differ_between_splits_are_named(tmp_path: Path) -> None:
    for part, name in (("train", "ant"), ("train", "bee"), ("val", "ant"), ("val", "wasp")):
        fill(tmp_path / "data" / part / name)
    words = "val must hold the classes of train: missing: bee; not among them: wasp"
    assert words in spoilt(lambda data: None, tmp_path / "data")


def test_a_class_that_a_split_lacks_is_named_with_the_way_on(tmp_path: Path) -> None:
    for name in ("train/ant", "train/bee", "train/cat", "val/ant", "val/bee"):
        fill(tmp_path / "data" / name)
    words = "the classes of train: missing: cat; mend it or put it away, and such a split is cut"
    assert words in spoilt(lambda data: None, tmp_path / "data")


def test_images_without_labels_in_test_say_what_to_do(tmp_path: Path) -> None:
    for name in ("train/ant", "train/bee", "test"):
        fill(tmp_path / "data" / name)
    words = "test holds no class folders: 4 images lie directly in it; put it away"
    assert words in spoilt(lambda data: None, tmp_path / "data")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission_is_named(cats: Path) -> None:
    (cats / "cat").chmod(0)
    try:
        assert "cat: Permission denied" in spoilt(lambda data: None, cats)
    finally:
        (cats / "cat").chmod(0o755)


# splits


def test_a_cut_split_holds_its_share_of_each_class_and_nothing_twice(cats: Path) -> None:
    splits = opened(cats)
    assert torch.bincount(splits.labels[splits.train]).tolist() == [28, 14]
    assert torch.bincount(splits.labels[splits.validation]).tolist() == [6, 3]
    assert torch.bincount(splits.test_labels).tolist() == [6, 3]
    parts = [splits.images[splits.train], splits.images[splits.validation], splits.test_images]
    assert sorted(torch.cat(parts).tolist()) == sorted(splits.images.tolist())
    assert torch.equal(opened(cats).train, splits.train)


def test_given_numbers_take_so_many_of_each_class_by_its_share(cats: Path) -> None:
    splits = opened(cats, ImageFolder(size=SIZE, n_train=15, n_validation=12))
    assert torch.bincount(splits.labels[splits.train]).tolist() == [10, 5]
    assert torch.bincount(splits.labels[splits.validation]).tolist() == [8, 4]
    assert len(splits.test_labels) == 9


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"n_train": 43}, "n_train=43: there are 42 images for it"),
        ({"n_validation": 50}, "n_validation=50: of 51 train images at most 49 can be taken"),
    ],
)
def test_more_images_than_there_are_is_refused(
    numbers: dict[str, int], words: str, cats: Path
) -> None:
    assert words in spoilt(lambda data: None, cats, ImageFolder(size=SIZE, **numbers))


def test_shares_of_classes_add_up_and_no_class_is_forgotten() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        counts = rng.integers(2, 200, rng.integers(2, 12))
        n = int(rng.integers(len(counts), counts.sum() - len(counts) + 1))
        out = apportioned(counts, n, counts - 1)
        assert out.sum() == n
        assert (out >= 1).all()
        assert (out < counts).all()
        inside = (out > 1) & (out < counts - 1)
        assert (np.abs(out - counts * n / counts.sum())[inside] < len(counts)).all()


# pixels


@pytest.mark.parametrize("shape", [(40, 30), (11, 90), (5, 3), (8, 9), (1, 1)])
def test_an_image_is_resized_and_cropped_as_by_torchvision(
    shape: tuple[int, int], cats: Path
) -> None:
    image = picture(width=shape[0], height=shape[1], seed=9)
    image.save(cats / "cat/0.png")
    crop = v2.Compose([v2.Resize(SIZE, antialias=True), v2.CenterCrop(SIZE)])
    splits = opened(cats)
    assert np.array_equal(splits.images[0].numpy(), np.asarray(crop(image)))
    assert any(text.startswith("1 image of another size") for text in splits.remarks)
    assert any("enlarged" in text for text in splits.remarks) == (min(shape) < SIZE)


def clear() -> Any:
    """Black strokes on nothing, as icons are drawn."""
    icon = Image.new("RGBA", (SIZE, SIZE), (0, 0, 0, 0))
    icon.putpixel((2, 3), (0, 0, 0, 255))
    return icon


def deep() -> Any:
    return Image.fromarray(np.full((SIZE, SIZE), 0x7FFF, np.uint16))


def turned() -> dict[str, Any]:
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: to be turned by 90 degrees clockwise
    return {"exif": exif}


@pytest.mark.parametrize(
    ("image", "name", "extra", "words", "pixel"),
    [
        (picture("L"), "a.png", {}, "1 image stored as grey: the one channel is repeated", None),
        (picture("1"), "a.png", {}, "1 image stored as grey", None),
        (clear(), "a.png", {}, "1 image with transparency: laid on white", (255, 255, 255)),
        (deep(), "a.png", {}, "1 image of 16 bits: the upper 8 are kept", (127, 127, 127)),
        (deep(), "a.tiff", {}, "1 image of 16 bits", (127, 127, 127)),
        (picture("CMYK"), "a.jpg", {}, "1 image stored as CMYK: converted to RGB", None),
        (picture(), "a.jpg", turned(), "1 image turned upright as the EXIF", None),
        (
            picture(),
            "a.gif",
            {"save_all": True, "append_images": [picture(seed=1)]},
            "1 image with several frames: the first is taken",
            None,
        ),
        (picture("P"), "a.bmp", {}, "60 train", None),
        (picture("RGBA"), "a.webp", {"lossless": True}, "60 train", None),
    ],
)
def test_what_is_done_to_an_image_is_told(
    image: Any, name: str, extra: dict[str, Any], words: str, pixel: Any, tmp_path: Path
) -> None:
    for split in ("train", "val", "test"):
        fill(tmp_path / f"data/{split}/cat", 2)
        fill(tmp_path / f"data/{split}/dog", 2)
    image.save(tmp_path / "data/train/cat" / name, **extra)
    splits = opened(tmp_path / "data")
    if words != "60 train":  # a palette or opaque alpha is nothing to speak of
        assert any(text.startswith(words) for text in splits.remarks)
    else:
        assert len(splits.remarks) == 1
    at = sorted(["0.png", "1.png", name]).index(name)
    if pixel is not None:
        assert tuple(splits.images[at, 0, 0].tolist()) == pixel


def test_an_image_is_turned_upright(cats: Path) -> None:
    image = picture(seed=3)
    image.save(cats / "cat/0.png", **turned())
    upright = np.asarray(image.transpose(Image.Transpose.ROTATE_270))
    assert np.array_equal(opened(cats).images[0].numpy(), upright)


def test_one_channel_turns_all_images_grey(cats: Path) -> None:
    splits = opened(cats, ImageFolder(size=SIZE, channels=1))
    assert splits.images.shape[3] == 1
    expected = np.asarray(Image.open(cats / "cat/0.png").convert("L"))
    assert np.array_equal(splits.images[0, :, :, 0].numpy(), expected)
    assert "60 images stored in colour: turned to grey" in splits.remarks


def break_three(data: Path) -> None:
    jpeg = data / "cat/photo.jpg"
    picture(width=64, height=64).save(jpeg)
    jpeg.write_bytes(jpeg.read_bytes()[:-300])
    (data / "cat/1.png").write_bytes(b"")
    (data / "dög mit hut/page.gif").write_text("<html>")


def test_broken_images_are_named_and_left_out_where_that_is_asked_for(cats: Path) -> None:
    line = spoilt(break_three, cats)
    assert re.search(r"cannot decode the image .*cat/1.png: .*skip_broken=True", line)
    data = ImageFolder(size=SIZE, skip_broken=True)
    splits = opened(cats, data)
    assert splits.remarks[0].startswith("59 images of 2 classes (cat 39, dög mit hut 20)")
    assert splits.remarks[-1].startswith("3 broken images left out: ")
    for name in ("cat/1.png", "cat/photo.jpg (image file is truncated", "page.gif"):
        assert name in splits.remarks[-1]
    assert counted(data, folder=cats, cache=cats.parent / "cache").counted == (41, 9)


def test_numbers_whose_range_is_unknown_are_no_pixels(cats: Path) -> None:
    Image.fromarray(np.ones((SIZE, SIZE), np.float32)).save(cats / "cat/f.tif")
    line = spoilt(lambda data: None, cats)
    assert "cat/f.tif: its pixels are 32-bit numbers (mode F) whose range is not known" in line


def test_images_that_do_not_fit_on_the_disk_are_refused_before_they_are_decoded(
    cats: Path,
) -> None:
    line = spoilt(lambda data: None, cats, ImageFolder(size=2_000_000))
    assert re.search(r"60 images of 2000000 x 2000000 x 3 bytes take 655 TiB, and .* free", line)


# the study


def study(data: ImageFolder, **fields: Any) -> Study:
    task = {"model": small, "batch_size": 8, "data": data} | fields
    return Study(
        name="mine",
        task=Task(**task),
        screening=Screening(n_trials=2, epochs=8),
        diverged_value=0.5,
        range_test=RangeTest(n_sweeps=1, n_steps=60, end_lr=1e4),
    )


def small(channels: int = 3, outputs: int = 2) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * SIZE * SIZE, outputs))


def test_a_study_is_defined_before_its_folder_is_read_and_counts_it_once(cats: Path) -> None:
    definition = Definition(study(ImageFolder(size=SIZE, path="nowhere")), "", "")
    made = counted_now(definition, cats)
    assert made.study.task.steps_per_epoch == 42 // 8
    stored = declared(made.study, "")
    assert stored["task.data.counted"] == "(42, 9)"
    assert "task.data.path" not in stored
    again = counted_as_stored(definition, stored)
    compare("mine", stored, declared(again.study, ""))
    fill(cats / "cat", 41)
    with pytest.raises(DataError, match=r"the folder has changed: it gave 42 .* 9 .*, now 43"):
        opened(cats, again.study.task.data)  # type: ignore[attr-defined]


def test_a_batch_larger_than_the_folder_is_one_line(cats: Path) -> None:
    definition = Definition(study(DATA, batch_size=64), "", "")
    with pytest.raises(UserError, match=r"from 1 to n_train \(42\), got 64"):
        counted_now(definition, cats)


def test_the_protocol_of_a_folder_from_before_has_no_new_field() -> None:
    fields = declared(study(ImageFolder(size=8, n_train=42, n_validation=9)), "")
    assert [name for name in fields if name.startswith("task.data")] == [
        "task.data",
        "task.data.size",
        "task.data.n_train",
        "task.data.n_validation",
    ]


def test_a_folder_without_a_path_or_data_says_both_ways(cats: Path) -> None:
    with pytest.raises(DataError, match=r"--data FOLDER, or ImageFolder\(path=...\)"):
        open_splits(DATA, folder=None, cache=cats.parent)
    data = ImageFolder(size=SIZE, path=str(cats / "gone"))
    with pytest.raises(DataError, match=r"path .*gone: there is no such folder"):
        open_splits(data, folder=None, cache=cats.parent)


def test_a_study_finds_its_folder_by_path_and_resumes_with_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = digit_folder(tmp_path / "data", {0: 60, 1: 40}, size=SIZE)
    storage = f"sqlite:///{tmp_path / 'x.db'}"
    made = study(ImageFolder(size=SIZE, path=folder))
    with caplog.at_level(logging.INFO):
        range_test(made, storage=storage, device="cpu")
    assert "100 images stored as grey: the one channel is repeated to three" in caplog.messages
    moved = folder.rename(tmp_path / "moved")
    result = run(made, storage=storage, device="cpu", data=moved)
    assert result.steps_per_epoch == 70 // 8
    assert "70 train, 15 validation, 15 test" in result_protocol(tmp_path / "x.db")


def result_protocol(file: Path) -> str:
    import sqlite3

    with sqlite3.connect(file) as connection:
        ((text,),) = connection.execute("SELECT resolved FROM study")
    return str(text)


# model and augmentation


def classifier(cats: Path, **fields: Any) -> Classifier:
    task = {"data": DATA, "model": small, "batch_size": 8, "precision": "fp32"} | fields
    made = Task(**task).counted(cats, cats.parent / "cache")
    return Classifier(made, Site(device="cpu", data=cats, cache=cats.parent / "cache"))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda: small(outputs=1), "the model gives 1 outputs, and the data has 2 classes"),
        (lambda: small(channels=1), "the model does not take images of (2, 3, 8, 8): Runtime"),
        (nn.Identity, "the model must give (images, classes), got torch.Size([2, 3, 8, 8])"),
    ],
)
def test_a_model_that_does_not_suit_the_data_is_refused_in_one_line(
    model: Callable[[], nn.Module], words: str, cats: Path
) -> None:
    with pytest.raises(TaskError, match=re.escape(words)) as caught:
        classifier(cats, model=model)
    assert "\n" not in str(caught.value)


def test_more_outputs_than_classes_are_told(cats: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        classifier(cats, model=lambda: small(outputs=1000))
    assert "the model gives 1000 outputs for 2 classes: the others are never a target" in (
        caplog.messages
    )


def test_a_transform_draws_for_each_image_and_the_same_in_every_run(cats: Path) -> None:
    flipping = classifier(cats, augment=v2.RandomHorizontalFlip())
    plain = classifier(cats, augment=Augment())
    torch.manual_seed(0)
    before = torch.get_rng_state()
    images, labels = flipping.batch(1, 0, batch_size=40)
    assert torch.equal(torch.get_rng_state(), before)
    same, expected = plain.batch(1, 0, batch_size=40)
    assert torch.equal(labels, expected)
    flipped = [torch.equal(a, b.flip(2)) for a, b in zip(images, same, strict=True)]
    kept = [torch.equal(a, b) for a, b in zip(images, same, strict=True)]
    assert sum(flipped) + sum(kept) == 40
    assert 8 < sum(flipped) < 32  # P < 1e-4 for a fair coin
    assert torch.equal(flipping.batch(1, 0, batch_size=40)[0], images)


@pytest.mark.parametrize(
    ("augment", "words"),
    [
        (v2.ToDtype(torch.float32, scale=True), "torch.float32 numbers; leave ToDtype"),
        (v2.Resize(4), "got (3, 4, 4); evaluation is at the size of the images"),
        (v2.ToPILImage(), "got a Image"),
        (v2.MixUp(num_classes=2), "augment does not take a uint8 image of (3, 8, 8): "),
    ],
)
def test_a_transform_that_does_not_suit_the_loop_is_refused(
    augment: Any, words: str, cats: Path
) -> None:
    with pytest.raises(TaskError, match=re.escape(words)):
        classifier(cats, augment=augment)


def test_what_is_no_transform_is_refused() -> None:
    for augment in (["flip"], v2.RandomHorizontalFlip):
        with pytest.raises(ValueError, match=r"augment must be an Augment\(...\) or a transform"):
            study(DATA, augment=augment)


def test_the_protocol_names_a_transform_without_addresses() -> None:
    def made(p: float) -> dict[str, str]:
        augment = v2.Compose([v2.RandomHorizontalFlip(p), v2.Lambda(lambda x: x)])
        return declared(study(DATA, augment=augment), "")

    assert made(0.5) == made(0.5)
    assert made(0.5) != made(0.25)
    assert "RandomHorizontalFlip(p=0.5)" in made(0.5)["task.augment.text"]
    assert "0x" not in made(0.5)["task.augment.text"]


def test_the_examples_load_their_folders(tmp_path: Path) -> None:
    digits = digit_folder(tmp_path / "three", {0: 80, 1: 70, 2: 50})
    for split in ("train", "val"):
        for name in ("ant", "bee"):
            for number in range(80):
                file = tmp_path / "photos" / split / name / f"{number}.jpg"
                file.parent.mkdir(parents=True, exist_ok=True)
                picture(width=40 + number % 9, height=60 - number % 7).save(file)
    for name, where in (("mobilenet_folder", digits), ("photos", tmp_path / "photos")):
        path = EXAMPLES / f"{name}.py"
        assert len(path.read_text().splitlines()) <= 30
        task = counted_now(load(str(path)), where).study.task
        trainer = task.trainer(Site(device="cpu", data=where, cache=tmp_path / "cache"))
        assert task.steps_per_epoch == 4
        assert "data read" in trainer.facts()  # type: ignore[attr-defined]
