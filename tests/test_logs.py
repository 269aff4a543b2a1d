"""Logs: what lines are read, which rate of an epoch counts, and how far its digits are rounded."""

import math
import time
from typing import Any

import pytest
from numpy.typing import NDArray

from trainers.calls.logs import Log, parse
from trainers.errors import UserError


def printed(column: NDArray[Any]) -> list[float | None]:
    return [None if math.isnan(value) else value for value in column.tolist()]


def pairs(log: Log) -> list[tuple[float | None, float]]:
    return list(zip(printed(log.epoch), log.lr.tolist(), strict=True))


def halves(text: str) -> list[float]:
    return [float(half) for half in parse(text).half]


@pytest.mark.parametrize(
    "line",
    [
        "Epoch 3 train loss 1.23 acc 0.4 LR=0.0004",
        "[Epoch 3/200] lr: 0.0004 loss: 2.1",
        "epoch=3, learning_rate=4.0e-04",
        "2024-01-02 03:04:05 INFO Epoch [003] | lr 0.00040 | 12 s",
        "Ep 3 | current learning rate is 0.0004",
        "{'loss': 2.1, 'learning_rate': 0.0004, 'epoch': 3.0}",
        '{"epoch": 3, "lr": 0.0004, "loss": 2.1}',
        '{"epoch": 3, "optim/lr": [0.0004]}',
        "Epoch #3: lr=[0.0004]",
        "Epoch 3/200\n 391/391 - loss: 2.1 - lr: 4e-4",
    ],
)
def test_a_rate_and_its_epoch_are_read_from_what_people_print(line: str) -> None:
    assert pairs(parse(line)) == [(3, 0.0004)]


@pytest.mark.parametrize(
    "text",
    [
        "epoch,loss,lr\n1,2.0,0.0004\n2,1.9,0.0005\n",
        "epoch;step;lr-SGD\n1;390;\n1;391;0.0004\n2;782;0.0005",
        "Epoch\tlearning_rate\n1\t4e-4\n2\t5e-4",
        '{"epoch": 1, "lr": 0.0004}\n{"epoch": 1, "loss": 2.0}\n{"epoch": 2, "lr": 0.0005}',
    ],
)
def test_tables_and_json_lines_are_read(text: str) -> None:
    assert pairs(parse(text)) == [(1, 0.0004), (2, 0.0005)]


@pytest.mark.parametrize(
    "line", ["epochs=200 batch size 128", "lr scheduler: OneCycleLR", "flair=0.1 epoch 3", "{"]
)
def test_lines_without_a_rate_are_no_rates(line: str) -> None:
    with pytest.raises(UserError, match="no learning rate in the log; lines like"):
        parse(line)


def test_epochs_are_read_as_printed_whole_or_not() -> None:
    log = parse("epoch 0 lr=0.1\nepoch 1 lr=0.2")
    assert (log.unit, pairs(log)) == ("epoch", [(0, 0.1), (1, 0.2)])
    log = parse("'epoch': 0.5, 'lr': 0.1\n'epoch': 1.0, 'lr': 0.2")
    assert (log.unit, pairs(log)) == ("fraction", [(0.5, 0.1), (1, 0.2)])


def test_rates_without_numbers_are_in_order_and_told() -> None:
    log = parse("lr=0.1\nloss=3\nlr=0.2")
    assert (log.unit, pairs(log)) == ("count", [(None, 0.1), (None, 0.2)])


@pytest.mark.parametrize(
    ("line", "rate"),
    [
        ("Epoch 3 lr=0,000406", 0.000406),
        ("Epoch 3 lr = 4.06×10^-4", 0.000406),
        ("Epoch 3 lr = 4.06 x 10^{-4}", 0.000406),
        ("Epoch 3 lr = 4.06·10⁻⁴", 0.000406),
        ("Epoch 3 lr = 4.06D-04", 0.000406),
        ("Epoch 3 lr 0.0406%", 0.000406),
        ("Epoch 3 lr .000406", 0.000406),
        ("Epoch 3 lr0.000406", 0.000406),
        ("Epoch 3 lr=np.float32(0.000406)", 0.000406),
        ("Epoch 3 lr: tensor([0.000406], device='cuda:0')", 0.000406),
        ("Epoch 3 lr=(0.000406, 0.1)", 0.000406),
        ("Epoch 3 lr={'backbone': 0.000406, 'head': 0.1}", 0.000406),
        ("Epoch 3 lr[0]=0.000406 lr[1]=0.1", 0.000406),
        ("Epoch 3 lr (group 0): 0.000406 lr (group 1): 0.1", 0.000406),
        ("Epoch 3 learning rate of group 0 to 4.06e-4.", 0.000406),
        ("Epoch 3 **lr**: `0.000406`", 0.000406),
        ("Epoch 3 lr → 0.000406", 0.000406),
        ("Epoch 3 initial lr 0.1 lr 0.000406 max_lr 0.1", 0.000406),
        ("Epoch 3 base_lr: 0.1 lr: 0.000406", 0.000406),
        ("Epoch 3 lr: 4.060e-04 (4.100e-04)", 0.000406),
    ],
)
def test_a_rate_is_read_however_it_is_written(line: str, rate: float) -> None:
    assert pairs(parse(line)) == [(3, pytest.approx(rate, rel=1e-12))]


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("Epoch: [3] [ 40/391] eta: 0:10 lr: 0.1", (3, 40, None)),
        ("Epoch [3][40/391] lr: 0.1", (3, 40, None)),
        ("Train: 3 [ 40/391 ( 10%)] LR: 1.0e-1", (3, 40, None)),
        ("Epoch 3:  10%|#   | 40/391 [00:12<00:15, 14.2it/s, lr=0.1]", (3, 40, None)),
        ("Epoch 3/9 ━━━━ 40/391 0:00:12 • 0:00:15 14.2it/s lr: 0.1", (3, 40, None)),
        ("epoch 003:     40 / 391 loss=9.1, num_updates=1213, lr=0.1", (3, 40, None)),
        ("[3/10][40/391] lr: 0.1", (3, 40, None)),
        ("Rank 3/8 epoch 3 batch 40/391 lr 0.1", (3, 40, None)),
        ("eta: 0:10:00  iter: 19  lr: 0.1  max_mem: 1000M", (None, None, 19)),
        ("[11/28 14:09:43 d2.utils.events]: iter: 19  lr: 0.1", (None, None, 19)),
        (" iteration      100/    3910 | learning rate: 1.0E-1 |", (None, None, 100)),
        ("Iter(train) [ 350/3910]  base_lr: 1.0e-01 lr: 1.0e-01", (None, None, 350)),
        ("global_step=1,200 lr=0.1", (None, None, 1200)),
        ("step 1,200 (epoch 3.07) lr 0.1", (3.07, None, 1200)),
        ('{"_step": 7, "lr": 0.1, "_timestamp": 1700000000.1}', (None, None, 7)),
        ('{"trainer/global_step": 7, "_step": 9, "lr": 0.1}', (None, None, 7)),
    ],
)
def test_the_place_is_read_from_the_line(
    line: str, place: tuple[float | None, int | None, int | None]
) -> None:
    log = parse(line)
    ((epoch,), (batch,), (step,)) = map(printed, (log.epoch, log.batch, log.step))
    assert (epoch, batch, step if batch is None else None) == place


@pytest.mark.parametrize(
    "line",
    [
        "2024/01/02 03:04:05 saved 3/10 files, best epoch 2, lr=0.1",
        "max_steps=100 steps_per_epoch=391 batch_size=128 epochs=10 lr=0.1",
        "lr=0.1 12.5 it/s 30ms/step [11/28 10:00:00]",
        "resumed from epoch 3, lr=0.1",
    ],
)
def test_dates_options_and_speeds_are_no_places(line: str) -> None:
    assert parse(line).unit == "count"


def test_options_are_left_out_where_other_lines_are_numbered() -> None:
    log = parse("Namespace(lr=0.1, epochs=9)\nEpoch 1 lr=0.2\nEpoch 2 lr=0.3\nlr: 0.5")
    assert pairs(log) == [(1, 0.2), (2, 0.3)]
    assert log.n_left_out == 2


def test_a_number_too_large_and_nan_are_kept() -> None:
    rates = [lr for _, lr in pairs(parse("Epoch 1 lr=1e400\nEpoch 2 lr=nan\nEpoch 3 lr=-inf"))]
    assert rates[0] == math.inf
    assert math.isnan(rates[1])
    assert rates[2] == -math.inf


def test_a_column_with_the_exact_name_goes_first() -> None:
    assert pairs(parse("acc_epoch,epoch,loss_lr,lr\n9,1,7,0.1\n9,2,7,0.2")) == [(1, 0.1), (2, 0.2)]


def test_long_lines_cost_no_more_than_their_length() -> None:
    text = "epoch lr " * 100_000 + "\nlr=" + "9" * 100_000 + "\n" + "[[ lr = [ " * 100_000
    begun = time.process_time()
    assert len(parse(text + "\nEpoch 1 lr=0.1\nEpoch 2 lr=0.2").lr) == 2
    assert time.process_time() - begun < 10


def test_the_last_rate_of_an_epoch_and_the_last_run_count() -> None:
    run = "Epoch 1 train lr=0.1\nEpoch 1 val lr=0.2\nEpoch 2 lr=0.3\n"
    log = parse("Epoch 1 lr=0.9\nEpoch 2 lr=0.8\nEpoch 3 lr=0.7\n" + run)
    assert pairs(log) == [(1, 0.2), (2, 0.3)]
    assert (log.n_of_earlier_runs, log.n_repeated) == (3, 1)


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        (["0.0004", "0.0100"], [5e-5, 5e-5]),
        (["0.0004", "0.01", "0.0123"], [5e-5, 5e-5, 5e-5]),  # round(lr, 4): zeros are dropped
        (["0.0004123", "0.01234"], [5e-8, 5e-6]),  # %.4g: digits, not decimals
        (["4.00e-04", "1.23e-02"], [5e-7, 5e-5]),
        (["0.01"], [0.005]),
        (["0.0004", "0.0004000344827586207"], [5e-20, 5e-20]),  # print(lr): every digit is there
        (["0.0000", "0.0400"], [5e-5, 5e-5]),
    ],
)
def test_a_rate_is_as_exact_as_its_digits(rates: list[str], expected: list[float]) -> None:
    text = "\n".join(f"Epoch {i} lr={rate}" for i, rate in enumerate(rates, 1))
    assert halves(text) == pytest.approx(expected)
