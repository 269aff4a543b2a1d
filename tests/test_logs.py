"""Logs: what lines are read, which rate of an epoch counts, and how far its digits are rounded."""

import pytest

from trainers.calls.logs import Log, parse
from trainers.errors import UserError


def pairs(log: Log) -> list[tuple[float, float]]:
    return [(reading.epoch, reading.lr) for reading in log.readings]


def halves(text: str) -> list[float]:
    return [reading.half for reading in parse(text).readings]


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


def test_epochs_counted_from_0_begin_at_1() -> None:
    assert pairs(parse("epoch 0 lr=0.1\nepoch 1 lr=0.2")) == [(1, 0.1), (2, 0.2)]
    assert pairs(parse("'epoch': 0.5, 'lr': 0.1\n'epoch': 1.0, 'lr': 0.2"))[0] == (0.5, 0.1)


def test_rates_without_epochs_are_counted_and_told() -> None:
    log = parse("lr=0.1\nloss=3\nlr=0.2")
    assert pairs(log) == [(1, 0.1), (2, 0.2)]
    assert not log.numbered


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
