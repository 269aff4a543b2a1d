"""--gpus: which GPUs a process and its workers see. torch's count of GPUs stands in for GPUs."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.conftest import TABLE_STUDY, Ended
from trainers.errors import DeviceError
from trainers.gpus import gpu_of, use_gpus

VISIBLE = "CUDA_VISIBLE_DEVICES"
Give = Callable[..., None]


@pytest.fixture
def give(monkeypatch: pytest.MonkeyPatch) -> Give:
    """Set CUDA_VISIBLE_DEVICES (None: not set) and what torch counts."""

    def call(visible: str | None, *, count: int) -> None:
        for name in (VISIBLE, "CUDA_DEVICE_ORDER"):
            monkeypatch.setenv(name, "")  # so that it is put back, whatever it was
            monkeypatch.delenv(name)
        if visible is not None:
            monkeypatch.setenv(VISIBLE, visible)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return call


@pytest.mark.parametrize(
    ("visible", "names", "chosen"),
    [
        (None, "0", "0"),
        (None, "3,1", "3,1"),
        ("2,3", "1", "3"),
        ("4, 5,6", "2,1", "6,5"),
        ("GPU-8f1c,GPU-0b52", "1,0", "GPU-0b52,GPU-8f1c"),
    ],
)
def test_indices_pick_from_the_visible_gpus(
    visible: str | None, names: str, chosen: str, give: Give
) -> None:
    give(visible, count=len(chosen.split(",")))
    use_gpus(names)
    assert os.environ[VISIBLE] == chosen
    order = os.environ.get("CUDA_DEVICE_ORDER")
    assert order == ("PCI_BUS_ID" if visible is None else None), "nvidia-smi's numbers"


def test_of_mig_instances_torch_sees_one_and_each_worker_has_its_own(give: Give) -> None:
    give("MIG-a,MIG-b,MIG-c", count=1)
    use_gpus("0,2")
    assert [gpu_of(number) for number in range(3)] == ["MIG-a", "MIG-c", "MIG-a"]
    give("MIG-a,MIG-b", count=0)
    with pytest.raises(DeviceError, match="sees 0 of these 2 GPUs"):
        use_gpus("0,1")


@pytest.mark.parametrize("names", ["", "a", "0,,1", ",0", "0,", "-1", "0 1", "0,1\n", "1.0"])
def test_what_is_no_list_of_indices_is_refused_before_anything_changes(
    names: str, give: Give
) -> None:
    give("2,3", count=2)
    with pytest.raises(DeviceError, match=r"must be indices .* as in 0 or 0,1") as refused:
        use_gpus(names)
    assert repr(names) in str(refused.value)
    assert os.environ[VISIBLE] == "2,3"


@pytest.mark.parametrize(
    ("visible", "count", "names", "problem"),
    [
        (None, 8, "1,0,1", "--gpus 1,0,1: must name each GPU once"),
        (None, 8, "0,00", "--gpus 0,00: must name each GPU once"),
        ("2,3", 2, "0,2", "--gpus 0,2: CUDA_VISIBLE_DEVICES='2,3' leaves indices 0 to 1"),
        ("", 0, "0", "--gpus 0: CUDA_VISIBLE_DEVICES='' leaves no GPU"),
        (None, 1, "0,7", "sees 1 of these 2 GPUs"),
        ("0,1", 0, "0", "sees 0 of these 1 GPUs"),
    ],
)
def test_gpus_that_are_not_there_are_refused_with_what_is(
    visible: str | None, count: int, names: str, problem: str, give: Give
) -> None:
    give(visible, count=count)
    with pytest.raises(DeviceError) as refused:
        use_gpus(names)
    assert problem in str(refused.value)


@pytest.mark.parametrize(
    ("visible", "count", "seen"),
    [
        (None, 2, ["0", "1", "0", "1"]),
        ("5", 1, ["5", "5", "5", "5"]),
        ("6, 2,4", 3, ["6", "2", "4", "6"]),
        ("1,9", 1, ["1", "1", "1", "1"]),  # CUDA ends the list at what is not there
    ],
)
def test_each_worker_has_one_gpu_and_more_workers_than_gpus_share(
    visible: str | None, count: int, seen: list[str], give: Give
) -> None:
    give(visible, count=count)
    assert [gpu_of(number) for number in range(4)] == seen


def test_torch_first_looks_when_the_gpus_are_chosen_and_never_falls_back_to_the_cpu(
    give: Give, main_here: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str | None] = []

    def look(answer: int) -> int:
        looks.append(os.environ.get(VISIBLE))
        return answer

    give("3,4", count=2)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: look(1))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(look(0)))
    ended = main_here("run", "--study", str(TABLE_STUDY), "--gpus", "1", "--dry-run")
    assert set(looks) == {"4"}
    assert ended.code == 2
    assert "device 'cuda' is not there" in ended.err


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (("--gpus", "0,,1"), "--gpus '0,,1': must be indices"),
        (("--gpus", "0", "--device", "cpu"), "--gpus 0: goes with --device cuda or auto"),
        (("--gpus", "0,99"), "of these 2 GPUs"),
    ],
)
@pytest.mark.parametrize("command", ["run", "worker"])
def test_refused_gpus_are_one_line_and_exit_code_2(
    command: str,
    flags: tuple[str, ...],
    problem: str,
    give: Give,
    main_here: Callable[..., Ended],
    tmp_path: Path,
) -> None:
    give(None, count=0)
    storage = f"sqlite:///{tmp_path}/studies.db"
    ended = main_here(command, "--study", str(TABLE_STUDY), "--storage", storage, *flags)
    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert problem in ended.err
    assert not (tmp_path / "studies.db").exists()
