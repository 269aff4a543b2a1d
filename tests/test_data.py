"""Image data: splits, both folder layouts, and a decoded cache that is built once."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import trainers
from trainers.data import Cifar10, Data, Digits, ImageFolder, Splits, open_splits
from trainers.errors import DataError
from trainers.images.cifar10 import CIFAR10_CLASSES

SIZE = 6
TINY = ImageFolder(size=SIZE, n_train=5, n_validation=2)


def python(script: str, *arguments: object) -> subprocess.Popen[str]:
    paths = [str(Path(trainers.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.PIPE,
        text=True,
    )


def write_image(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def make_tree(
    folder: Path, classes: tuple[str, ...], *, n: int = 4, size: int = SIZE, suffix: str = "png"
) -> Path:
    """`n` random images per class in train, one in test."""
    rng = np.random.default_rng(0)
    for part, count in (("train", n), ("test", 1)):
        for name in classes:
            for number in range(count):
                pixels = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
                write_image(folder / part / name / f"{number}.{suffix}", pixels)
    return folder


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "data", ("ant", "bee"))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def built_folders(cache: Path) -> list[Path]:
    return sorted(path for path in (cache / "decoded").iterdir() if path.is_dir())


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    stats = {str(path): path.stat() for path in folder.rglob("*")}
    return {path: (stat.st_size, stat.st_mtime_ns) for path, stat in stats.items()}


# descriptions


def test_importing_the_descriptions_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'numpy', 'PIL', 'sklearn', 'torchvision'}"
    process = python(f"import sys, trainers.data; print({heavy} & set(sys.modules))")
    assert process.communicate()[0].strip() == "set()"


@pytest.mark.parametrize(
    ("describe", "message"),
    [
        (lambda: Digits(n_train=0, n_validation=1), "n_train .* at least 1, got 0"),
        (lambda: Digits(n_train=1, n_validation=-1), "n_validation .* at least 1, got -1"),
        (lambda: Digits(n_train=1.5, n_validation=1), r"n_train must be a whole .* got 1\.5"),  # type: ignore[arg-type]
        (lambda: Digits(n_train=1797, n_validation=1), r"at most 1796, got 1797 \+ 1 = 1798"),
        (lambda: Cifar10(n_train=50_000, n_validation=1), "at most 50000, got .* = 50001"),
        (lambda: ImageFolder(size=0, n_train=1, n_validation=1), "size .* at least 1, got 0"),
        (lambda: ImageFolder(size=8, n_train=True, n_validation=1), "n_train .* got True"),
    ],
)
def test_a_description_refuses_numbers_that_cannot_be(
    describe: Callable[[], Data], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        describe()


# splits


def test_digits_are_split_three_ways_without_overlap(cache: Path) -> None:
    from sklearn.datasets import load_digits

    splits = open_splits(Digits(n_train=1000, n_validation=300), folder=None, cache=cache)
    assert (len(splits.train), len(splits.validation), len(splits.test_labels)) == (1000, 300, 497)
    assert len(set(splits.train.tolist()) | set(splits.validation.tolist())) == 1300
    assert splits.classes == tuple("0123456789")
    assert splits.images.dtype == torch.uint8
    digits = load_digits()
    assert np.array_equal(splits.images[..., 0].numpy(), digits.images * 15)
    taken = torch.cat([splits.train, splits.validation])
    counts = torch.bincount(splits.labels[taken], minlength=10)
    counts += torch.bincount(splits.test_labels, minlength=10)
    assert counts.tolist() == np.bincount(digits.target).tolist()


def test_digits_left_for_test_are_in_no_other_split(cache: Path) -> None:
    splits = open_splits(Digits(n_train=1300, n_validation=400), folder=None, cache=cache)
    taken = torch.cat([splits.train, splits.validation])
    rest = np.setdiff1d(np.arange(1797), taken.numpy())
    expected = splits.images[torch.from_numpy(rest)].flatten(1).tolist()
    assert sorted(splits.test_images.flatten(1).tolist()) == sorted(expected)


def test_the_split_is_the_same_twice_and_for_everybody(cache: Path) -> None:
    def once() -> Splits:
        return open_splits(Digits(n_train=1000, n_validation=300), folder=None, cache=cache)

    first, second = once(), once()
    assert torch.equal(first.train, second.train)
    assert torch.equal(first.validation, second.validation)
    assert first.checksum == second.checksum
    assert first.train[:5].tolist() == [1025, 521, 1064, 1578, 573]


def test_mean_and_std_are_those_of_the_train_split_alone(tree: Path, cache: Path) -> None:
    splits = open_splits(TINY, folder=tree, cache=cache)
    pixels = splits.images[splits.train].double().flatten(0, 2)
    assert torch.allclose(splits.mean.double(), pixels.mean(0))
    assert torch.allclose(splits.std.double(), pixels.std(0, correction=0))
    everything = splits.images.double().flatten(0, 2)
    assert not torch.allclose(splits.mean.double(), everything.mean(0))


def test_a_folder_with_too_few_images_is_refused_with_the_numbers(tree: Path, cache: Path) -> None:
    data = ImageFolder(size=SIZE, n_train=6, n_validation=3)
    with pytest.raises(DataError, match=r"n_train=6 and n_validation=3 need 9 .* holds 8"):
        open_splits(data, folder=tree, cache=cache)


# folders of images


def test_images_and_labels_follow_the_sorted_names(tree: Path, cache: Path) -> None:
    (tree / "train/ant/.hidden.png").write_bytes(b"no image")
    (tree / "train/ant/notes.txt").write_text("no image")
    splits = open_splits(TINY, folder=tree, cache=cache)
    assert splits.classes == ("ant", "bee")
    assert splits.labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert splits.test_labels.tolist() == [0, 1]
    files = [tree / "train" / name / f"{k}.png" for name in ("ant", "bee") for k in range(4)]
    for got, file in zip(splits.images, files, strict=True):
        assert np.array_equal(got.numpy(), np.asarray(Image.open(file).convert("RGB")))
    assert splits.test_images.shape == (2, SIZE, SIZE, 3)


def test_a_grey_image_becomes_three_equal_channels(tree: Path, cache: Path) -> None:
    grey = np.arange(SIZE * SIZE, dtype=np.uint8).reshape(SIZE, SIZE)
    write_image(tree / "train/ant/0.png", grey)
    splits = open_splits(TINY, folder=tree, cache=cache)
    assert np.array_equal(splits.images[0].numpy(), np.stack([grey] * 3, axis=-1))


def remove_train(tree: Path) -> None:
    shutil.rmtree(tree / "train")
    (tree / "val").mkdir()


def empty_a_class(tree: Path) -> None:
    for path in (tree / "train/bee").iterdir():
        path.unlink()


def remove_all_classes(tree: Path) -> None:
    shutil.rmtree(tree / "train/ant")
    shutil.rmtree(tree / "train/bee")


def rename_a_test_class(tree: Path) -> None:
    (tree / "test/bee").rename(tree / "test/wasp")


def leave_one_class(tree: Path) -> None:
    for part in ("train", "test"):
        shutil.rmtree(tree / part / "bee")


def put_images_in_no_class(tree: Path) -> None:
    remove_all_classes(tree)
    write_image(tree / "train/1.png", np.zeros((SIZE, SIZE, 3), np.uint8))


def name_a_split_twice(tree: Path) -> None:
    shutil.copytree(tree / "test", tree / "Testing")


def put_a_file_in_its_place(tree: Path) -> None:
    shutil.rmtree(tree)
    tree.write_bytes(b"PK")


def replace_an_image_by_text(tree: Path) -> None:
    (tree / "train/bee/2.png").write_text("this is no image")


def truncate_an_image(tree: Path) -> None:
    path = tree / "train/bee/2.png"
    path.write_bytes(path.read_bytes()[:-40])


def leave_a_dead_link(tree: Path) -> None:
    (tree / "train/bee/4.png").symlink_to(tree / "gone.png")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shutil.rmtree, "--data .*data: there is no such folder"),
        (put_a_file_in_its_place, "--data .*data: this is a file; give a folder"),
        (remove_train, "data holds test and val but no train; allowed are train/<class>/*"),
        (empty_a_class, "train/bee holds no images; allowed are .jpg"),
        (remove_all_classes, "train holds no class folders"),
        (rename_a_test_class, "test must hold the classes of train: missing: bee; .*: wasp"),
        (leave_one_class, "train holds one class only, 'ant'; at least 2 are needed"),
        (put_images_in_no_class, "train holds no class folders: 1 image lies directly in it"),
        (name_a_split_twice, "data holds Testing and test, which all mean test; keep one"),
        (replace_an_image_by_text, "cannot decode the image .*train/bee/2.png"),
        (truncate_an_image, "the image .*train/bee/2.png: .*; mend or .*skip_broken=True"),
        (leave_a_dead_link, "cannot decode the image .*train/bee/4.png: No such file"),
    ],
)
def test_a_spoilt_folder_is_refused_in_one_line_and_nothing_is_kept(
    spoil: Callable[[Path], None], message: str, tree: Path, cache: Path
) -> None:
    spoil(tree)
    with pytest.raises(DataError, match=message.replace("/*", r"/\*")) as caught:
        open_splits(TINY, folder=tree, cache=cache)
    assert "\n" not in str(caught.value)
    assert not (cache / "decoded").exists() or built_folders(cache) == []


def test_own_images_need_a_folder(cache: Path) -> None:
    with pytest.raises(DataError, match="needs --data FOLDER"):
        open_splits(TINY, folder=None, cache=cache)


def test_cifar10_as_jpeg_folders_is_accepted(tmp_path: Path, cache: Path) -> None:
    folder = make_tree(tmp_path / "jpeg", CIFAR10_CLASSES, n=2, size=32, suffix="jpg")
    splits = open_splits(Cifar10(n_train=15, n_validation=5), folder=folder, cache=cache)
    assert splits.images.shape == (20, 32, 32, 3)
    assert splits.test_images.shape == (10, 32, 32, 3)
    assert splits.classes == CIFAR10_CLASSES


def test_cifar10_as_folders_is_never_resized(tmp_path: Path, cache: Path) -> None:
    folder = make_tree(tmp_path / "jpeg", CIFAR10_CLASSES, n=2, size=33, suffix="jpg")
    with pytest.raises(DataError, match="is 33 x 33 pixels; images must be 32 x 32"):
        open_splits(Cifar10(n_train=15, n_validation=5), folder=folder, cache=cache)


def test_cifar10_as_folders_needs_its_ten_classes(tmp_path: Path, cache: Path) -> None:
    folder = make_tree(tmp_path / "jpeg", (*CIFAR10_CLASSES[1:], "zebra"), n=2, size=32)
    with pytest.raises(DataError, match="missing: airplane; not among them: zebra"):
        open_splits(Cifar10(n_train=15, n_validation=5), folder=folder, cache=cache)


def test_a_folder_in_neither_layout_names_both(tmp_path: Path, cache: Path) -> None:
    message = r"must hold cifar-10-batches-py/ .* or train/<class>/\* and test/<class>/\*"
    with pytest.raises(DataError, match=message):
        open_splits(Cifar10(n_train=15, n_validation=5), folder=tmp_path, cache=cache)


# the cache

SOURCE = """
import os, signal, sys, time
from pathlib import Path
import numpy as np
from trainers.images.cache import Decoded, cached

class Slow:
    name, text = "slow", "a slow source"
    def fingerprint(self):
        return "1"
    def decode(self, into):
        with open(sys.argv[2], "a") as log:
            log.write("decoded\\n")
        for part in ("train", "test"):
            np.save(into / f"{part}_images.npy", np.ones((3, 2, 2, 1), np.uint8))
            if sys.argv[3] == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(0.2)
            np.save(into / f"{part}_labels.npy", np.zeros(3, np.int64))
        return Decoded(classes=("one",))

print(cached(Slow(), Path(sys.argv[1])).checksum)
"""


def test_four_processes_that_start_together_decode_once(tmp_path: Path, cache: Path) -> None:
    processes = [python(SOURCE, cache, tmp_path / "log", "live") for _ in range(4)]
    checksums = {process.communicate()[0] for process in processes}
    assert [process.returncode for process in processes] == [0] * 4
    assert (tmp_path / "log").read_text() == "decoded\n"
    assert len(checksums) == 1
    assert len(built_folders(cache)) == 1


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_builder_killed_midway_leaves_the_next_start_working(
    tmp_path: Path, cache: Path
) -> None:
    killed = python(SOURCE, cache, tmp_path / "log", "die")
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert len(built_folders(cache)) == 1
    after = python(SOURCE, cache, tmp_path / "log", "live")
    assert len(after.communicate()[0].strip()) == 64
    assert (tmp_path / "log").read_text() == "decoded\n" * 2
    assert [path.name.count("building") for path in built_folders(cache)] == [0]


def test_a_second_start_decodes_nothing(tree: Path, cache: Path) -> None:
    open_splits(TINY, folder=tree, cache=cache)
    before = snapshot(cache)
    open_splits(TINY, folder=tree, cache=cache)
    assert snapshot(cache) == before


def test_a_changed_file_is_decoded_again_and_the_old_cache_goes(tree: Path, cache: Path) -> None:
    first = open_splits(TINY, folder=tree, cache=cache)
    old = built_folders(cache)
    write_image(tree / "train/ant/0.png", np.full((SIZE, SIZE, 3), 7, np.uint8))
    second = open_splits(TINY, folder=tree, cache=cache)
    assert (second.images[0] == 7).all()
    assert second.checksum != first.checksum
    assert len(built_folders(cache)) == 1
    assert built_folders(cache) != old


def test_the_cache_of_another_folder_stays(tree: Path, tmp_path: Path, cache: Path) -> None:
    other = make_tree(tmp_path / "other", ("ant", "bee"))
    first = open_splits(TINY, folder=tree, cache=cache)
    second = open_splits(TINY, folder=other, cache=cache)
    assert len(built_folders(cache)) == 2
    assert first.checksum == second.checksum


def test_the_checksum_knows_the_class_names(tree: Path, cache: Path) -> None:
    first = open_splits(TINY, folder=tree, cache=cache)
    for part in ("train", "test"):
        (tree / part / "bee").rename(tree / part / "wasp")
    second = open_splits(TINY, folder=tree, cache=cache)
    assert torch.equal(first.images, second.images)
    assert first.checksum != second.checksum


def truncate(folder: Path) -> None:
    path = folder / "train_images.npy"
    os.truncate(path, path.stat().st_size - 1)


def lengthen(folder: Path) -> None:
    with (folder / "train_images.npy").open("ab") as file:
        file.write(b"more")


def remove_array(folder: Path) -> None:
    (folder / "test_labels.npy").unlink()


def reshape(folder: Path) -> None:
    path = folder / "train_images.npy"
    np.save(path, np.load(path).reshape(-1, SIZE * SIZE, 1, 3))


def garble_meta(folder: Path) -> None:
    (folder / "meta.json").write_text("{")


def empty_array(folder: Path) -> None:
    (folder / "train_labels.npy").write_bytes(b"")


@pytest.mark.parametrize(
    "damage", [truncate, lengthen, remove_array, reshape, garble_meta, empty_array]
)
def test_a_damaged_cache_is_built_again(
    damage: Callable[[Path], None], tree: Path, cache: Path
) -> None:
    good = open_splits(TINY, folder=tree, cache=cache)
    images = good.images.clone()
    folder = built_folders(cache)[0]
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    damage(folder)
    again = open_splits(TINY, folder=tree, cache=cache)
    assert torch.equal(again.images, images)
    assert again.checksum == good.checksum
    assert {path.name: path.stat().st_size for path in folder.iterdir()} == sizes
    before = snapshot(cache)
    open_splits(TINY, folder=tree, cache=cache)
    assert snapshot(cache) == before


def test_nothing_is_written_into_the_data_folder(tree: Path, cache: Path) -> None:
    for path in (*tree.rglob("*"), tree):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = snapshot(tree)
    try:
        open_splits(TINY, folder=tree, cache=cache)
        assert snapshot(tree) == before
    finally:
        for path in (tree, *tree.rglob("*")):
            path.chmod(0o755)


def test_a_cache_that_cannot_be_written_names_the_variable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = tmp_path / "file/cache"
    with pytest.raises(DataError, match=r"cannot write .*file/cache.*set ONECYCLE_CACHE"):
        open_splits(Digits(n_train=10, n_validation=10), folder=None, cache=cache)


def test_a_write_to_a_tensor_stays_in_its_process(tree: Path, cache: Path) -> None:
    splits = open_splits(TINY, folder=tree, cache=cache)
    splits.images[0] = 255 - splits.images[0]
    assert not torch.equal(open_splits(TINY, folder=tree, cache=cache).images, splits.images)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_images_are_the_mapped_file_and_reading_copies_nothing(cache: Path) -> None:
    splits = open_splits(Digits(n_train=1000, n_validation=300), folder=None, cache=cache)
    splits.images.sum()
    address = splits.images.data_ptr()
    for mapping in re.split(r"\n(?=[0-9a-f]+-)", Path("/proc/self/smaps").read_text()):
        start, end = (int(number, 16) for number in mapping.split(maxsplit=1)[0].split("-"))
        if start <= address < end:
            break
    assert str(cache) in mapping.splitlines()[0]
    assert re.search(r"Rss: +[1-9]\d* kB", mapping)
    assert re.search(r"Anonymous: +0 kB", mapping)
