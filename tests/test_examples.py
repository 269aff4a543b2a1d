"""The studies in docs/examples, each in a short form: searched, trained, scored again by hand."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, mean_squared_error
from torch import Tensor, nn

from search import api
from search.results.export import exported
from search.results.result import StudyResult
from studies.registry import load
from tests.conftest import ROOT
from tests.folders import digit_folder
from trainers.calls.audit import audit_run
from trainers.device import Site
from trainers.errors import TaskError
from trainers.final import Facts, load_final
from trainers.onecycle import OneCycle
from trainers.run import Run, RunResult
from trainers.training import Training

pytestmark = pytest.mark.slow

EXAMPLES = ROOT / "docs" / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))
MOST_LINES = 30
SITE = Site(device="cpu", data=None, cache=Path("unused"))

# A study file that imports an example and changes its counts alone.
SHORT = """
from dataclasses import replace

from studies.definition import Confirmation, RangeTest
from studies.registry import load

LONG = load({path!r}).study
STUDY = replace(
    LONG,
    epochs={epochs},
    screening=replace(LONG.screening, n_trials=2, epochs={epochs}),
    range_test=RangeTest(n_sweeps=1, n_steps=100),
    confirmation=Confirmation(n_finalists=1, n_seeds=2),
)
"""


class Done:
    """An example that was searched in short form, and its final model."""

    def __init__(self, name: str, folder: Path, *, epochs: int, data: Path | None = None) -> None:
        self.file = folder / f"{name}_short.py"
        self.file.write_text(SHORT.format(path=str(EXAMPLES / f"{name}.py"), epochs=epochs))
        storage = f"sqlite:///{folder}/studies.db"
        self.task: Any = load(str(EXAMPLES / f"{name}.py")).study.task
        self.result: StudyResult = api.run(self.file, storage=storage, device="cpu", data=data)
        out = folder / name
        final = api.train(self.result.name, out, storage=storage, device="cpu", data=data)
        (self.model,) = final.models

    @property
    def facts(self) -> Facts:
        """What is said of the final model."""
        return self.model.facts

    def loaded(self) -> nn.Module:
        """Return the final model, from its files."""
        return load_final(self.model.path, self.task.model)[0]


@torch.no_grad()
def outputs(model: nn.Module, inputs: Any) -> Tensor:
    return torch.cat([model(each) for each in inputs])


def macro_f1(model: nn.Module, pairs: Any) -> float:
    chosen = outputs(model, [words[None] for words, _ in pairs]).argmax(1)
    return float(f1_score([topic for _, topic in pairs], chosen, average="macro"))


def squared_error(model: nn.Module, rows: Any) -> float:
    columns, wanted = rows.tensors
    return float(mean_squared_error(wanted, outputs(model, [columns])))


def dice(model: nn.Module, pairs: Any) -> float:
    chosen = outputs(model, [image[None] for image, _ in pairs]) > 0
    masks = torch.stack([mask for _, mask in pairs]) > 0
    return float(2 * (chosen & masks).sum() / (chosen.sum() + masks.sum()))


def distance(model: nn.Module, real: Tensor) -> float:
    maker = model.get_submodule("0")
    torch.manual_seed(0)  # of every evaluation
    made = outputs(maker, [torch.randn(len(real), 4)])
    return float(np.abs(np.sort(made.numpy(), 0) - real.numpy()).mean())


def accuracy(model: nn.Module, pairs: Any) -> float:
    inputs, classes = (torch.stack([torch.as_tensor(p[i]) for p in pairs]) for i in (0, 1))
    return float((outputs(model, [inputs]).argmax(1) == classes).float().mean())


BY_HAND: Mapping[str, Callable[[nn.Module, Any], float]] = {
    "text": macro_f1,
    "tabular": squared_error,
    "segmentation": dice,
    "two_optimizers": distance,
}


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_short(name: str) -> None:
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) <= MOST_LINES


def test_there_are_nine_and_a_table_says_what_came_out_of_each() -> None:
    table = (EXAMPLES / "README.md").read_text()
    assert len(NAMES) == 9
    assert sorted(re.findall(r"^\| \[(\w+)\.py\]\(\1\.py\) ", table, re.MULTILINE)) == NAMES
    lines = dict(re.findall(r"^\| \[(\w+)\.py\]\S+ \|.*?\| (\d+) \|", table, re.MULTILINE))
    for name in NAMES:
        assert int(lines[name]) == len((EXAMPLES / f"{name}.py").read_text().splitlines())


@pytest.mark.parametrize("name", BY_HAND)
def test_the_weights_of_an_example_score_what_was_said(
    name: str, tmp_path: Path, own_generators: None
) -> None:
    done = Done(name, tmp_path, epochs=2)
    for split in ("validation", "test"):
        said = done.facts.scores[split]
        again = BY_HAND[name](done.loaded(), done.task.data.fixed[split])
        assert again == pytest.approx(said, rel=1e-5), split
    assert done.facts.metric == load(str(done.file)).study.metric


class Recorded(list[Any]):
    """Samples, and the numbers of those that were read."""

    def __init__(self, samples: Any) -> None:
        super().__init__(samples)
        self.read: list[int] = []

    def __getitem__(self, index: Any) -> Any:
        self.read.append(index)
        return super().__getitem__(index)


def test_the_exported_call_of_two_groups_makes_the_searched_weights_bit_for_bit(
    tmp_path: Path, own_generators: None
) -> None:
    done = Done("two_groups", tmp_path, epochs=6)
    task, facts, plan = done.task, done.facts, done.result.recommended.params.plan(60)
    assert facts.n_steps == 60

    # The run again, for the order of its samples and its rates.
    train = Recorded(task.data.fixed["train"])
    run = Run(plan=plan, seed=facts.seed, split=None)
    Training(
        model=task.model,
        optimizer=task.optimizer,
        data={**task.data.fixed, "train": train},
        batch_size=task.batch_size,
        loss=task.loss,
        score=task.score,
    ).trainer(SITE).fit(run)

    def bare(onecycle: Callable[..., Any]) -> tuple[nn.Module, list[list[float]]]:
        torch.manual_seed(facts.seed)
        model = task.model()
        optimizer = task.optimizer(model)
        scheduler, rates = onecycle(optimizer, 60), []
        for step in range(60):
            pairs = [list.__getitem__(train, i) for i in train.read[20 * step : 20 * step + 20]]
            loss = nn.functional.cross_entropy(
                model(torch.stack([x for x, _ in pairs])), torch.stack([y for _, y in pairs])
            )
            optimizer.zero_grad()
            loss.backward()
            rates.append([group["lr"] for group in optimizer.param_groups])
            optimizer.step()
            if step < 59:
                scheduler.step()
        return model, rates

    exec(exported(done.result, "torch"), code := dict[str, Any]())
    model, rates = bare(code["onecycle"])
    assert rates == [[point.lr, *point.other_lrs] for point in run.points]
    assert all(head == pytest.approx(10 * body) for body, head in rates)
    weights = done.loaded().state_dict()
    assert all(torch.equal(each, weights[name]) for name, each in model.state_dict().items())
    assert accuracy(model, task.data.fixed["test"]) == pytest.approx(facts.scores["test"])

    # The same call as pasted from the terminal has six digits of each number.
    def pasted(optimizer: torch.optim.Optimizer, total_steps: int) -> Any:
        return eval(facts.call, {"torch": torch, "optimizer": optimizer})

    model, rates = bare(pasted)
    assert all(head == pytest.approx(10 * body) for body, head in rates)
    assert accuracy(model, task.data.fixed["test"]) == pytest.approx(
        facts.scores["test"], abs=0.01
    )


@pytest.mark.long  # by default tests/test_folders.py loads both folders
@pytest.mark.parametrize("name", ["mobilenet_folder", "photos"])
def test_a_folder_is_searched_and_its_weights_are_loaded(name: str, tmp_path: Path) -> None:
    counts = {0: 60, 1: 50, 2: 40}
    data = tmp_path / "images"
    if name == "photos":
        digit_folder(data / "train", counts, size=36)
        digit_folder(data / "val", counts, size=44)
    else:
        digit_folder(data, counts)
    done = Done(name, tmp_path, epochs=10, data=data)
    assert set(done.facts.scores) == {"validation", "test"}
    assert done.facts.task["classes"] == ["0", "1", "2"]
    assert not done.loaded().training


def test_a_lightning_module_is_searched_and_its_checkpoint_scores_what_was_said(
    tmp_path: Path,
) -> None:
    done = Done("lightning_module", tmp_path, epochs=1)
    model, facts = load_final(done.model.path, done.task.module)
    (x, y) = zip(*done.task.data["validation"].dataset, strict=True)
    chosen = outputs(model.get_submodule("net"), [torch.stack(x)]).argmax(1)
    right = (chosen == torch.stack(y)).float().mean()
    assert float(right) == pytest.approx(facts.scores["validation"], abs=1e-6)


def test_a_fine_tune_is_searched_and_its_folder_scores_what_was_said(tmp_path: Path) -> None:
    from transformers import BertForSequenceClassification

    done = Done("tiny_bert", tmp_path, epochs=2)
    model = BertForSequenceClassification.from_pretrained(done.model.path)
    samples = done.task.evaluation["validation"]
    with torch.no_grad():
        logits = model.eval()(torch.stack([each["input_ids"] for each in samples])).logits
    right = np.mean(logits.argmax(1).numpy() == [each["labels"] for each in samples])
    assert float(right) == pytest.approx(done.facts.scores["validation"], abs=1e-6)


def test_two_optimizers_at_once_are_refused_with_the_way_on() -> None:
    def both(model: nn.Module) -> Any:
        return torch.optim.Adam(model[0].parameters()), torch.optim.SGD(model[1].parameters())

    task = load(str(EXAMPLES / "two_optimizers.py")).study.task
    with pytest.raises(TaskError) as refused:
        Training(
            model=task.model,
            optimizer=both,
            data=dict(task.data.fixed),
            batch_size=50,
            loss=task.loss,
            score="loss",
        ).trainer(SITE).fit(Run(plan=OneCycle(max_lr=0.01, total_steps=20), seed=0))
    assert "must return one optimizer, got a tuple of 2: a cycle drives one" in str(refused.value)
    (document,) = re.findall(r"docs/\S+\.md", str(refused.value))
    assert "register_step_post_hook" in (ROOT / document).read_text()


def test_a_loop_of_ones_own_may_have_a_second_optimizer_at_its_own_rate() -> None:
    run = Run(plan=OneCycle(max_lr=0.01, total_steps=20), seed=0)
    torch.manual_seed(run.seed)
    generator, discriminator = nn.Linear(2, 1), nn.Linear(1, 1)
    maker = torch.optim.Adam(generator.parameters(), maximize=True)
    critic = torch.optim.Adam(discriminator.parameters(), lr=1e-3)
    scheduler = run.plan.scheduler(maker)
    for step in range(20):
        loss = discriminator(generator(torch.randn(8, 2))).square().mean()
        loss.backward()
        run.report(step, loss.detach(), lrs=[maker.param_groups[0]["lr"]])
        for optimizer in (maker, critic):
            optimizer.step()
            optimizer.zero_grad()
        if step < 19:
            scheduler.step()
    run.look()
    result = RunResult(score=0.0, outcome="completed", n_steps=20, n_images=160, seconds=0.0)
    audit_run(run.plan, run.points, result)
    assert critic.param_groups[0]["lr"] == 1e-3
