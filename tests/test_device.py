"""Where a run happens: devices that are there, and generators and threads put back."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from trainers.device import (
    DeviceKind,
    cache_folder,
    checkpoint_folder,
    device_name,
    native_precision,
    reproducible,
    resolve_device,
)
from trainers.errors import DeviceError

PRESENT: dict[DeviceKind, bool] = {
    "cpu": True,
    "cuda": torch.cuda.is_available(),
    "mps": torch.backends.mps.is_available(),
}


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("kind", PRESENT)
def test_a_device_is_itself_or_an_error_that_lists_what_is_here(kind: DeviceKind) -> None:
    if PRESENT[kind]:
        assert resolve_device(kind) == kind
        assert device_name(kind)
    else:
        with pytest.raises(DeviceError, match=rf"device '{kind}' is not there .*here: .*cpu"):
            resolve_device(kind)


@pytest.mark.parametrize("asked", ["tpu", "", "CPU", "cuda:0"])
def test_an_unknown_device_is_an_error_that_lists_what_is_here(asked: str) -> None:
    with pytest.raises(DeviceError) as refused:
        resolve_device(asked)
    assert repr(asked) in str(refused.value)
    listed = str(refused.value).split("here: ")[1].split(", ")
    assert set(listed) == {"auto", *(kind for kind, there in PRESENT.items() if there)}


def test_auto_is_an_accelerator_where_there_is_one() -> None:
    expected = next(kind for kind in ("cuda", "mps", "cpu") if PRESENT[kind])  # type: ignore[index]
    assert resolve_device("auto") == expected


def test_the_precision_of_a_device_is_bf16_or_fp32() -> None:
    assert native_precision("mps") == "fp32"
    has = torch.cpu.get_capabilities()
    native = any(has.get(name) for name in ("avx512_bf16", "amx_bf16"))
    assert native_precision("cpu") == ("bf16" if native else "fp32")


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("fails", [False, True])
def test_threads_and_generator_of_the_caller_are_put_back(fails: bool) -> None:
    before = torch.get_rng_state()
    try:
        with reproducible(7, "cpu") as device:
            assert device == torch.device("cpu")
            assert torch.get_num_threads() == 1
            torch.rand(3)
            if fails:
                raise RuntimeError("the body failed")
    except RuntimeError:
        assert fails
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == 2


def test_the_seed_decides_what_is_drawn() -> None:
    def draw(seed: int) -> list[float]:
        with reproducible(seed, "cpu"):
            return torch.rand(5).tolist()

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    assert len(draw(2**63 - 1)) == 5  # the largest that seed_for gives


def test_the_cache_folder_is_the_named_one_or_the_platforms(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ONECYCLE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.setenv("ONECYCLE_CACHE", "~/kept")
    assert cache_folder() == Path.home() / "kept"
    monkeypatch.delenv("ONECYCLE_CACHE")
    assert cache_folder().is_absolute()
    assert "onecycle" in cache_folder().parts


def test_checkpoints_lie_in_the_cache_or_where_they_are_wanted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert checkpoint_folder(tmp_path) == tmp_path / "checkpoints"
    monkeypatch.setenv("ONECYCLE_CHECKPOINTS", "~/shared")
    assert checkpoint_folder(tmp_path) == Path.home() / "shared"
    monkeypatch.setenv("ONECYCLE_CHECKPOINTS", "")
    assert checkpoint_folder(tmp_path) == tmp_path / "checkpoints"
