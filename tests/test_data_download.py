"""CIFAR-10's own files: in a folder, downloaded from a server on this machine, or not at all."""

import hashlib
import io
import pickle
import socket
import tarfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from torchvision.datasets import CIFAR10

from trainers.data import Cifar10, Splits, open_splits
from trainers.errors import DataError
from trainers.images.cifar10 import CIFAR10_CLASSES, CIFAR10_MD5

TINY = Cifar10(n_train=6, n_validation=3)
FILES = {"data_batch_1": 5, "data_batch_2": 5, "test_batch": 4}
ORIGINAL_MD5 = CIFAR10.tgz_md5


class OldPickler(pickle.Pickler):
    """Writes dtypes as in the original files, which numpy 2.4.0 to 2.4.4 warn about."""

    def reducer_override(self, thing: object) -> object:
        if isinstance(thing, np.dtype):
            return np.dtype, (thing.str[1:], 0, 1), thing.__reduce__()[2]
        return NotImplemented


def pickled(thing: object) -> bytes:
    out = io.BytesIO()
    OldPickler(out, protocol=2).dump(thing)
    return out.getvalue()


def batch_pixels(name: str) -> np.ndarray:
    """Pixels as the original stores them: (n, 3 * 32 * 32), channel by channel."""
    rng = np.random.default_rng(len(name) + FILES[name] + ord(name[-1]))
    return rng.integers(0, 256, (FILES[name], 3072), dtype=np.uint8)


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny archive in CIFAR-10's format, whose checksums torchvision is told."""
    contents = {
        name: pickled({"data": batch_pixels(name), "labels": list(range(n))})
        for name, n in FILES.items()
    }
    contents["batches.meta"] = pickled({"label_names": list(CIFAR10_CLASSES)})
    (tmp_path / "served").mkdir()
    path = tmp_path / "served/cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, content in contents.items():
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    sums = {name: md5(content) for name, content in contents.items()}
    train = [[name, sums[name]] for name in ("data_batch_1", "data_batch_2")]
    meta = {"filename": "batches.meta", "key": "label_names", "md5": sums["batches.meta"]}
    monkeypatch.setattr(CIFAR10, "train_list", train)
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", meta)
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(path.read_bytes()))
    monkeypatch.setenv("no_proxy", "*")
    return path


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a test's output is its own."""


@pytest.fixture
def server(archive: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    """Serves the archive at the address that torchvision downloads from."""
    handler = partial(QuietHandler, directory=str(archive.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/{archive.name}"
        monkeypatch.setattr(CIFAR10, "url", url)
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def closed_port(archive: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a server that is not there."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{sock.getsockname()[1]}/{archive.name}"
    monkeypatch.setattr(CIFAR10, "url", url)
    return url


@pytest.fixture
def unpacked(archive: Path, tmp_path: Path) -> Path:
    """The user's own copy of the original files."""
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            path = tmp_path / "own" / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            content = tar.extractfile(member)
            assert content is not None
            path.write_bytes(content.read())
    return tmp_path / "own"


def assert_holds_the_batches(splits: Splits) -> None:
    train = np.concatenate([batch_pixels("data_batch_1"), batch_pixels("data_batch_2")])
    assert np.array_equal(splits.images.permute(0, 3, 1, 2).flatten(1).numpy(), train)
    test = splits.test_images.permute(0, 3, 1, 2).flatten(1).numpy()
    assert np.array_equal(test, batch_pixels("test_batch"))
    assert splits.labels.tolist() == [0, 1, 2, 3, 4] * 2
    assert splits.test_labels.tolist() == [0, 1, 2, 3]
    assert splits.classes == CIFAR10_CLASSES


def test_the_archive_known_here_is_the_one_torchvision_verifies() -> None:
    assert CIFAR10_MD5 == ORIGINAL_MD5


@pytest.mark.usefixtures("server")
def test_a_download_leaves_stdout_alone_and_happens_once(
    tmp_path: Path,
    archive: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    cache = tmp_path / "cache"
    assert_holds_the_batches(open_splits(TINY, folder=None, cache=cache))
    assert capfd.readouterr().out == ""
    archive.unlink()
    for path in (cache / "cifar-10/cifar-10-batches-py").iterdir():
        path.unlink()
    assert_holds_the_batches(open_splits(TINY, folder=None, cache=cache))


@pytest.mark.usefixtures("server")
def test_a_download_with_another_checksum_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CIFAR10, "tgz_md5", "0" * 32)
    with pytest.raises(DataError, match=f"not the original with md5 {'0' * 32}; put cifar-10"):
        open_splits(TINY, folder=None, cache=tmp_path / "cache")
    assert not list((tmp_path / "cache/decoded").glob("*/"))


@pytest.mark.usefixtures("server")
def test_an_archive_that_the_server_does_not_have_is_a_data_error(
    tmp_path: Path, archive: Path
) -> None:
    archive.unlink()
    with pytest.raises(DataError, match="HTTP Error 404"):
        open_splits(TINY, folder=None, cache=tmp_path / "cache")


def test_without_a_server_the_error_says_what_to_do(tmp_path: Path, closed_port: str) -> None:
    with pytest.raises(DataError) as caught:
        open_splits(TINY, folder=None, cache=tmp_path / "cache")
    message = str(caught.value)
    assert message.startswith(f"cannot download CIFAR-10 from {closed_port}: ")
    assert f"put cifar-10-python.tar.gz into {tmp_path / 'cache/cifar-10'} by hand" in message
    assert "--data FOLDER that holds cifar-10-batches-py/" in message
    assert "train/<class>/* and test/<class>/*" in message
    assert "--study digits needs no download" in message
    assert "\n" not in message


@pytest.mark.usefixtures("closed_port")
def test_an_archive_put_there_by_hand_needs_no_server(tmp_path: Path, archive: Path) -> None:
    folder = tmp_path / "cache/cifar-10"
    folder.mkdir(parents=True)
    archive.rename(folder / archive.name)
    assert_holds_the_batches(open_splits(TINY, folder=None, cache=tmp_path / "cache"))


@pytest.mark.usefixtures("closed_port")
def test_the_original_files_in_a_folder_of_the_user_are_read(
    tmp_path: Path, unpacked: Path
) -> None:
    before = sorted(unpacked.rglob("*"))
    assert_holds_the_batches(open_splits(TINY, folder=unpacked, cache=tmp_path / "cache"))
    assert sorted(unpacked.rglob("*")) == before


@pytest.mark.parametrize("name", ["data_batch_2", "test_batch", "batches.meta"])
@pytest.mark.parametrize("content", [b"garbage", None])
def test_a_corrupt_or_missing_file_is_named(
    name: str, content: bytes | None, tmp_path: Path, unpacked: Path
) -> None:
    path = unpacked / "cifar-10-batches-py" / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=f"{name} is missing or corrupt"):
        open_splits(TINY, folder=unpacked, cache=tmp_path / "cache")
