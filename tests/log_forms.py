"""Logs as people's tools print them, made by loops that step torch's own OneCycleLR."""

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.optim.lr_scheduler import OneCycleLR

EPOCHS, BATCHES, MAX_LR = 8, 60, 0.02


@dataclass(frozen=True)
class Line:
    """One optimizer step: its epoch and batch from 0, its rate, and get_last_lr() after it."""

    epoch: int
    batch: int
    batches: int
    used: float
    after: float

    @property
    def step(self) -> int:
        """Optimizer steps before this one."""
        return self.epoch * self.batches + self.batch


def trained(
    *,
    epochs: int = EPOCHS,
    batches: int = BATCHES,
    calls: Callable[[int, int], int] = lambda batch, batches: 1,
    max_lr: float = MAX_LR,
) -> list[Line]:
    """Train as far as torch lets it; `calls` of scheduler.step() follow a batch."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1, momentum=0.9)
    scheduler = OneCycleLR(optimizer, max_lr, epochs=EPOCHS, steps_per_epoch=BATCHES)
    lines: list[Line] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for epoch in range(epochs):
            for batch in range(batches):
                used = float(optimizer.param_groups[0]["lr"])
                optimizer.step()
                try:
                    for _ in range(calls(batch, batches)):
                        scheduler.step()
                except ValueError:
                    return lines
                lines.append(Line(epoch, batch, batches, used, scheduler.get_last_lr()[0]))
    return lines


def per_epoch(batch: int, batches: int) -> int:
    """One call at the end of an epoch."""
    return int(batch == batches - 1)


LOOPS: dict[str, list[Line]] = {
    "right": trained(),
    "cut": trained(epochs=5),
    "per-epoch": trained(calls=per_epoch),
    "too-few-batches": trained(batches=40),
    "too-many-batches": trained(batches=90),
    "twice": trained(calls=lambda batch, batches: 2),
    "every-4th": trained(calls=lambda batch, batches: int(batch % 4 == 3)),
}

Form = Callable[[Sequence[Line]], str]


def by_epoch(line: Callable[[int, float], str], *, header: str = "", base: int = 1) -> Form:
    """A line for each whole epoch, with the rate of its last step."""

    def form(lines: Sequence[Line]) -> str:
        last = [ln for ln in lines if ln.batch == ln.batches - 1]
        return header + "".join(line(ln.epoch + base, ln.used) + "\n" for ln in last)

    return form


def within(
    line: Callable[[Line, float], str],
    *,
    header: str = "",
    every: int = 10,
    begin: int = 0,
    after: bool = False,
    end: str = "\n",
) -> Form:
    """A line for every 10th batch of each epoch, or for every 10th step."""

    def form(lines: Sequence[Line]) -> str:
        kept = [ln for ln in lines if (ln.batch - begin) % every == 0]
        return header + "".join(line(ln, ln.after if after else ln.used) + end for ln in kept)

    return form


def _nested(epoch: int, lr: float) -> str:
    return json.dumps({"epoch": epoch, "lr": {"backbone": lr, "head": 10 * lr}})


BY_EPOCH: dict[str, Form] = {
    "plain": by_epoch(lambda e, lr: f"Epoch {e}  train loss 1.234  LR={lr:.6f}"),
    "plain from 0": by_epoch(lambda e, lr: f"Epoch {e}  loss 1.234  lr {lr:.6f}", base=0),
    "bracket": by_epoch(lambda e, lr: f"[Epoch {e:03d}/{EPOCHS}] lr: {lr:.3e} loss: 2.1"),
    "hash": by_epoch(lambda e, lr: f"Epoch #{e}: learning rate is {lr:.6f}, loss 2.1"),
    "ep": by_epoch(lambda e, lr: f"Ep {e} | lr {lr:.6f} | acc 0.91"),
    "key=value": by_epoch(lambda e, lr: f"epoch={e} loss=1.2 learning_rate={lr:.4e} s=12"),
    "logfmt": by_epoch(
        lambda e, lr: f'ts=2024-01-02T03:04:05Z level=info msg="done" epoch={e} lr={lr:.6f}'
    ),
    "index": by_epoch(lambda e, lr: f"Epoch {e} lr[0]={lr:.6f} lr[1]={lr * 10:.6f}"),
    "number of the group": by_epoch(lambda e, lr: f"Epoch {e} lr0: {lr:.6f} lr1: {lr:.6f}"),
    "name of the group": by_epoch(lambda e, lr: f"Epoch {e} lr-AdamW/pg1: {lr:.6f}"),
    "group in words": by_epoch(lambda e, lr: f"Epoch {e} lr (group 0): {lr:.6f}"),
    "adjusting": by_epoch(
        lambda e, lr: f"Epoch {e:5d}: adjusting learning rate of group 0 to {lr:.4e}."
    ),
    "decimal comma": by_epoch(lambda e, lr: f"Epoche/Epoch {e}: lr={lr:.6f}".replace(".", ",")),
    "list": by_epoch(lambda e, lr: f"epoch {e} lr=[{lr!r}, {10 * lr!r}], mom=[(0.9, 0.999)]"),
    "numpy": by_epoch(lambda e, lr: f"Epoch {e} lr=[np.float64({lr!r})]"),
    "tensor": by_epoch(lambda e, lr: f"Epoch {e} lr=tensor({lr:.6f}, dtype=torch.float64)"),
    "float32": by_epoch(lambda e, lr: f"Epoch {e} lr={torch.tensor(lr).item()!r}"),
    "times ten": by_epoch(lambda e, lr: f"Epoch {e} lr = {lr:.4e}".replace("e-0", " × 10^-")),
    "percent": by_epoch(lambda e, lr: f"Epoch {e} lr {100 * lr:.5f} %"),
    "colours": by_epoch(
        lambda e, lr: f"\x1b[34mINFO\x1b[0m Epoch \x1b[1;36m{e}\x1b[0m lr=\x1b[1m{lr:.6f}\x1b[0m"
    ),
    "get_last_lr": by_epoch(lambda e, lr: f"epoch: {e} scheduler.get_last_lr(): [{lr!r}]"),
    "rate first": by_epoch(lambda e, lr: f"lr: {lr:.6f} after epoch {e}"),
    "keras": by_epoch(
        lambda e, lr: f"Epoch {e}/{EPOCHS}\n - 9s - 12ms/step - loss: 1.2 - lr: {lr:.4e}"
    ),
    "yaml": by_epoch(lambda e, lr: f"- epoch: {e}\n  loss: 1.2\n  lr: {lr:.6f}"),
    "dict": by_epoch(lambda e, lr: f"{{'epoch': {e}, 'loss': 1.2, 'lr': {lr!r}}}"),
    "json lines": by_epoch(lambda e, lr: json.dumps({"epoch": e, "lr": lr, "loss": 2.1})),
    "nested json": by_epoch(_nested),
    "json in a line": by_epoch(
        lambda e, lr: f"INFO:root:{json.dumps({'epoch': e, 'lr': f'{lr:.6f}'})}"
    ),
    "message in json": by_epoch(
        lambda e, lr: json.dumps({"level": "info", "message": f"Epoch {e} lr={lr:.6f}"})
    ),
    "csv": by_epoch(lambda e, lr: f"0.9,{e},{lr:.6f}", header="acc_epoch,epoch,lr\n", base=0),
    "csv with a path": by_epoch(
        lambda e, lr: f"{e}, 1.2, {lr:.6f}, {lr:.6f}", header="epoch, train/loss, x/lr0, x/lr1\n"
    ),
    "csv of a dashboard": by_epoch(
        lambda e, lr: f'"{e}","{lr!r}","{lr!r}","{lr!r}"',
        header='"epoch","calm-sun-3 - lr","calm-sun-3 - lr__MIN","calm-sun-3 - lr__MAX"\n',
    ),
    "semicolons": by_epoch(
        lambda e, lr: f"{e};1,2;{lr:.6f}".replace(".", ","), header="epoch;loss;lr\n"
    ),
    "tabs": by_epoch(lambda e, lr: f"{e}\t1.2\t{lr:.3e}", header="Epoch\tloss\tlearning_rate\n"),
    "pipes": by_epoch(
        lambda e, lr: f"| {e} | 1.23 | {lr:.6f} |", header="| epoch | loss | lr |\n|---|---|---|\n"
    ),
    "box": by_epoch(
        lambda e, lr: f"│ {e:5d} │ 1.23 │ {lr:.6f} │",
        header="┏━━━━━━━┳━━━━━━┳━━━━━━┓\n┃ epoch ┃ loss ┃ lr   ┃\n┡━━━━━━━╇━━━━━━╇━━━━━━┩\n",
    ),
    "aligned": by_epoch(
        lambda e, lr: f"{e:7d}        0.6905  {lr:.6f}  0.0560",
        header="  epoch    train_loss      lr     dur\n-------  ------------  ------  ------\n",
    ),
    "frame": by_epoch(
        lambda e, lr: f"{e - 1}      {e}  1.234  {lr:.6f}", header="   epoch   loss        lr\n"
    ),
    "value of a tag": by_epoch(
        lambda e, lr: f"1700000000.{e},{e},{lr!r}", header="Wall time,Step,Value\n", base=0
    ),
    "long table": by_epoch(
        lambda e, lr: f"loss,{e},1.2\nlr,{e},{lr!r}", header="metric,epoch,value\n"
    ),
    "ordered dict": by_epoch(
        lambda e, lr: f"OrderedDict([('epoch', {e}), ('train_loss', 1.2), ('lr', {lr!r})])"
    ),
    "xml": by_epoch(lambda e, lr: f'<epoch n="{e}" lr="{lr:.6f}"/>'),
    "two lines of one epoch": by_epoch(lambda e, lr: f"Epoch {e}\nCurrent LR: {lr:.6f}\nloss 0.5"),
    "ini": by_epoch(lambda e, lr: f"[epoch {e}]\nloss = 0.3\nlearning_rate = {lr:.6f}"),
    "psql": by_epoch(
        lambda e, lr: f"  {e} | {lr:.6f} | 0.5",
        header=" epoch |    lr    | loss\n-------+----------+------\n",
    ),
    "vertical": by_epoch(
        lambda e, lr: (
            f"-----\n| time/     |   |\n|   epoch   | {e} |\n|   learning_rate | {lr:.6f} |"
        )
    ),
    "no numbers": by_epoch(lambda e, lr: f"loss 1.2 lr={lr:.6f}"),
    "adjusting, no numbers": by_epoch(
        lambda e, lr: f"Adjusting learning rate of group 0 to {lr:.4e}."
    ),
    "options first": by_epoch(
        lambda e, lr: f"Epoch {e} loss 1.2 lr {lr:.6f}",
        header="Namespace(epochs=8, batch_size=128, lr=0.1, momentum=0.9, start_epoch=0)\n",
    ),
    "crlf": by_epoch(lambda e, lr: f"Epoch {e} lr={lr:.6f}\r"),
    "two lines": by_epoch(
        lambda e, lr: f"epoch {e} train loss 1.2 lr {lr:.6f}\nepoch {e} val loss 1.3 lr {lr:.6f}"
    ),
    "two ranks": by_epoch(
        lambda e, lr: f"[rank0] epoch {e} lr {lr:.6f}\n[rank1] epoch {e} lr {lr:.6f}"
    ),
}
"""A rate for each epoch."""

WITHIN: dict[str, Form] = {
    "epoch [b/n]": within(
        lambda ln, lr: (
            f"Epoch: [{ln.epoch}]  [{ln.batch:3d}/{ln.batches}]  eta: 0:00:10  lr: {lr:.6f}"
        )
    ),
    "epoch [b/n] from 1": within(
        lambda ln, lr: (
            f"Epoch [{ln.epoch + 1}][{ln.batch + 1}/{ln.batches}]\tlr: {lr:.3e}, eta: 0:10:00"
        ),
        begin=9,
    ),
    "epoch(train)": within(
        lambda ln, lr: (
            f"2024/01/02 03:04:05 - mmengine - INFO - Epoch(train)  [{ln.epoch + 1}]"
            f"[{ln.batch + 1:3d}/{ln.batches}]  base_lr: {lr:.4e} lr: {lr:.4e}  eta: 0:10:00"
        ),
        begin=9,
        after=True,
    ),
    "train: e [b/n]": within(
        lambda ln, lr: (
            f"Train: {ln.epoch} [{ln.batch:4d}/{ln.batches} ({ln.batch:3d}%)]  "
            f"Loss: 1.2 (1.3)  LR: {lr:.3e}  Data: 0.01 (0.02)"
        )
    ),
    "samples": within(
        lambda ln, lr: (
            f"Train Epoch: {ln.epoch + 1} [{ln.batch * 128}/{ln.batches * 128 - 40} (7%)]\t"
            f"Loss: 1.2\tLR: {lr:.6f}"
        )
    ),
    "epoch, step": within(
        lambda ln, lr: (
            f"Epoch [{ln.epoch + 1}/{EPOCHS}], Step [{ln.batch + 1}/{ln.batches}], "
            f"Loss: 1.2, LR: {lr:.6f}"
        ),
        begin=9,
    ),
    "[e/n][b/n]": within(
        lambda ln, lr: f"[{ln.epoch}/{EPOCHS}][{ln.batch}/{ln.batches}] Loss_D: 1.2 lr: {lr:.6f}"
    ),
    "batch in words": within(
        lambda ln, lr: f"Epoch {ln.epoch + 1} | Batch {ln.batch}/{ln.batches} | lr {lr:.6f}"
    ),
    "epoch, iter": within(
        lambda ln, lr: f"epoch {ln.epoch} iter {ln.batch}/{ln.batches} loss 2.1 lr {lr:.6f}"
    ),
    "bar": within(
        lambda ln, lr: (
            f"Epoch {ln.epoch}:  45%|####5     | {ln.batch + 1}/{ln.batches} "
            f"[00:12<00:15, 14.2it/s, loss=1.2, lr={lr:.4g}]"
        ),
        end="\r",
    ),
    "bar alone": within(
        lambda ln, lr: (
            f" 45%|####5     | {ln.batch + 1}/{ln.batches} [00:12<00:15, 14.2it/s, lr={lr:.4g}]"
        ),
        begin=9,
        end="\r",
    ),
    "rich bar": within(
        lambda ln, lr: (
            f"Epoch {ln.epoch}/{EPOCHS - 1} ━━━━━━ {ln.batch + 1}/{ln.batches} "
            f"0:00:12 • 0:00:15 14.2it/s v_num: 0 lr: {lr:.6f}"
        )
    ),
    "keras bar": within(
        lambda ln, lr: (
            f"Epoch {ln.epoch + 1}/{EPOCHS}\n" * (ln.batch == 0)
            + f"{ln.batch + 1}/{ln.batches} [====>....] - ETA: 12s - loss: 2.1 - lr: {lr:.4e}"
        )
    ),
    "fraction": within(
        lambda ln, lr: (
            f"{{'loss': 0.0436, 'learning_rate': {lr!r}, "
            f"'epoch': {round((ln.step + 1) / ln.batches, 2)}}}"
        ),
        begin=9,
        after=True,
    ),
    "fraction in quotes": within(
        lambda ln, lr: (
            f"{{'loss': '0.0436', 'grad_norm': '0.139', 'learning_rate': '{lr:.4g}', "
            f"'epoch': '{(ln.step + 1) / ln.batches:.4g}'}}"
        ),
        begin=9,
        after=True,
    ),
    "fraction and step": within(
        lambda ln, lr: json.dumps(
            {
                "epoch": round((ln.step + 1) / ln.batches, 2),
                "learning_rate": lr,
                "loss": 2.1,
                "step": ln.step + 1,
            }
        ),
        begin=9,
        after=True,
    ),
    "bar with a step": within(
        lambda ln, lr: (
            f"Epoch {ln.epoch}: :  12%|█▏    | {ln.batch + 1}/{ln.batches} "
            f"[00:10<01:00, 2.5it/s, v_num=1, lr={lr:.3e}, global_step={ln.step + 1}]"
        ),
        begin=9,
        end="\r",
    ),
    "history with epochs": within(
        lambda ln, lr: json.dumps(
            {
                "train/learning_rate": lr,
                "train/epoch": round((ln.step + 1) / ln.batches, 3),
                "train/global_step": ln.step + 1,
                "_step": ln.step // 10,
            }
        ),
        begin=9,
        after=True,
    ),
    "step (epoch)": within(
        lambda ln, lr: (
            f"step {ln.step + 1:,} (epoch {(ln.step + 1) / ln.batches:.2f}) lr {lr:.6f}"
        ),
        begin=9,
    ),
    "fairseq": within(
        lambda ln, lr: (
            "2024-01-02 03:04:05 | INFO | train_inner | "
            + json.dumps(
                {
                    "epoch": ln.epoch + 1,
                    "update": round((ln.step + 1) / ln.batches, 3),
                    "loss": "9.1",
                    "num_updates": str(ln.step + 1),
                    "lr": f"{lr:.6g}",
                }
            )
        ),
        begin=9,
    ),
    "csv epoch and step": within(
        lambda ln, lr: f"{ln.epoch},{ln.step},{lr!r},1.2", header="epoch,step,lr-SGD,loss\n"
    ),
}
"""Rates within epochs whose lines say the epoch."""

BY_STEP: dict[str, Form] = {
    "step": within(lambda ln, lr: f"step {ln.step + 1}: loss 1.23, lr {lr:.6f}", begin=9),
    "iter": within(
        lambda ln, lr: f"eta: 0:10:00  iter: {ln.step}  total_loss: 1.2  time: 0.05  lr: {lr:.5g}",
        begin=9,
        after=True,
    ),
    "bar of steps": within(
        lambda ln, lr: (
            f"Steps:  12%|█▏    | {ln.step + 1}/480 [00:10<01:00, 2.5it/s, lr={lr:.3g}, loss=0.01]"
        ),
        begin=9,
        end="\r",
    ),
    "step:": within(
        lambda ln, lr: f"step:{ln.step + 1}/480 train_loss:3.2 lr:{lr:.6f} step_avg:12.3ms",
        begin=9,
    ),
    "date, iter": within(
        lambda ln, lr: (
            f"[11/28 14:09:43 d2.utils.events]:  eta: 0:10:00  iter: {ln.step}  lr: {lr:.5g}"
        ),
        begin=9,
    ),
    "iteration of": within(
        lambda ln, lr: (
            f" iteration {ln.step + 1:8d}/     480 | consumed samples: {128 * ln.step:12d} | "
            f"elapsed time per iteration (ms): 120.1 | learning rate: {lr:.6E} | loss scale: 1.0 |"
        ),
        begin=9,
    ),
    "deepspeed": within(
        lambda ln, lr: (
            "[2024-01-02 03:04:05,678] [INFO] [logging.py:96:log_dist] [Rank 0] "
            f"step={ln.step + 1}, skipped=0, lr=[{lr!r}], mom=[(0.9, 0.999)]"
        ),
        begin=9,
        after=True,
    ),
    "thousands": within(
        lambda ln, lr: f"global_step: {1_000_000 + ln.step:,}"[:13] + f"{ln.step:,} lr={lr:.3e}"
    ),
    "csv by step": within(lambda ln, lr: f"{ln.step},1.2,{lr:.6f}", header="step,loss,lr\n"),
    "csv by step, no epoch": within(
        lambda ln, lr: f",,{lr!r},{ln.step},\n,{ln.epoch},,{ln.step},0.84",
        header="acc,epoch,lr-SGD,step,train_loss\n",
        begin=9,
    ),
    "value by step": within(
        lambda ln, lr: f"1700000000.5,{ln.step},{torch.tensor(lr).item()!r}",
        header="Wall time,Step,Value\n",
    ),
    "history": within(
        lambda ln, lr: json.dumps({"_step": ln.step, "_runtime": 1.5, "lr": lr, "loss": 2.1})
    ),
    "every step, no numbers": within(lambda ln, lr: f"lr: {lr:.6f}", every=1),
}
"""Rates by the step of the whole training."""


def epoch_means(lines: Sequence[Line]) -> str:
    """Return JSON lines with the mean rate of each epoch."""
    return "".join(
        json.dumps({"train_lr": sum(rates) / len(rates), "epoch": epoch}) + "\n"
        for epoch, rates in _by_epoch(lines)
    )


def _by_epoch(lines: Sequence[Line]) -> Iterator[tuple[int, list[float]]]:
    for epoch in sorted({line.epoch for line in lines}):
        rates = [line.used for line in lines if line.epoch == epoch]
        if len(rates) == lines[0].batches:  # torch raised in the midst of another
            yield epoch, rates


def documents(lines: Sequence[Line]) -> dict[str, str]:
    """Return whole JSON documents: a trainer's state, a history, exported scalars."""
    kept = [line for line in lines if line.batch % 10 == 9]
    state = {
        "epoch": 8.0,
        "log_history": [
            {
                "epoch": (ln.step + 1) / ln.batches,
                "learning_rate": ln.after,
                "loss": 1.2,
                "step": ln.step + 1,
            }
            for ln in kept
        ],
        "max_steps": 480,
    }
    last = [line for line in lines if line.batch == line.batches - 1]
    history = {"loss": [1.2 for _ in last], "lr": [line.used for line in last]}
    scalars = [[1.7e9 + ln.step, ln.step, ln.used] for ln in kept]
    return {
        "state": json.dumps(state, indent=2),
        "history": json.dumps(history),
        "scalars": json.dumps(scalars),
    }


BY_EPOCH["means"] = epoch_means
