"""The command train: weights that score what was said, whatever happens on the way."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from search import api
from search.errors import GivenBackError, NoResultError, UsageError
from search.final.asked import FinalAsked
from search.final.models import FinalModel, FinalModels
from search.starting import catalog
from search.starting.opening import opened
from studies.definition import Screening
from studies.digits import STUDY as DIGITS
from studies.errors import ProtocolError
from tests.conftest import ROOT, Ended, Finished, FinishedStudy, plain
from tests.table_study import STUDY as TABLE
from tests.table_study import Table
from trainers.device import Site
from trainers.errors import DataError, TaskError
from trainers.final import facts_of, load_final
from trainers.loop import Classifier
from trainers.run import Run, RunResult
from trainers.task import OwnLoop
from trainers.training import Training

pytestmark = pytest.mark.slow

NET = "studies.digits:STUDY.task.model"

# The command line, which saves at every step of 140 and is killed after the 40th.
DRIVER = """
import os, signal, sys
from search.__main__ import main
from trainers import loop
from trainers.checkpoint import Checkpoint

loop._SECONDS_BETWEEN_CHECKPOINTS = 0.0
save, steps = Checkpoint.save, []

def save_and_die(self, state):
    save(self, state)
    steps.append(state)
    if len(steps) == 40:
        os.kill(os.getpid(), signal.SIGKILL)

Checkpoint.save = save_and_die
sys.argv[0] = "onecycle"
main()
"""


@pytest.fixture(scope="module")
def trained(
    finished_digits: FinishedStudy, tmp_path_factory: pytest.TempPathFactory
) -> FinalModels:
    """The final model of the digits study, trained once."""
    out = tmp_path_factory.mktemp("final") / "model.pt"
    return api.train("digits", out, storage=plain(finished_digits.url))


def weights(file: Path) -> dict[str, torch.Tensor]:
    return dict(torch.load(file, weights_only=True))


def same(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


def test_the_weights_score_what_was_said(trained: FinalModels, tmp_path: Path) -> None:
    (model,) = trained.models
    net, facts = load_final(model.path, NET)
    assert not net.training
    classifier = Classifier(DIGITS.task, Site(device="cpu", data=None, cache=tmp_path))
    assert facts.scores == {
        "validation": classifier.evaluate(net, "validation")[1],
        "test": classifier.evaluate(net, "test")[1],
    }
    assert facts.scores["validation"] > 0.9
    assert facts.task["mean"] == classifier.splits.mean.tolist()
    assert facts.task["classes"] == list("0123456789")


def test_the_facts_are_those_of_what_the_study_recommends(
    trained: FinalModels, finished_digits: FinishedStudy
) -> None:
    result = api.run("digits", storage=plain(finished_digits.url))
    facts = facts_of(trained.models[0].path)
    assert facts.params == dict(result.recommended.params)
    assert facts.slot == result.recommended.slot
    assert (facts.n_steps, facts.epochs, facts.trained_on) == (140, 10, "train")
    assert facts.onecycle_lr["max_lr"] == result.recommended.params.max_lr
    assert facts.versions["torch"] == torch.__version__.partition("+")[0]


def test_a_model_that_is_there_is_not_trained_again_nor_overwritten(
    trained: FinalModels,
    finished_digits: FinishedStudy,
    main_here: Callable[..., Ended],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    out = trained.models[0].path
    here = ("train", "--study", "digits", "--storage", plain(finished_digits.url))
    written = out.stat().st_mtime_ns
    again = main_here(*here, "--out", str(out))
    assert again.code == 0
    assert f"{out}: is trained already" in caplog.text
    other = main_here(*here, "--out", str(out), "--slot", "1")
    assert (other.code, other.err.count("\n")) == (2, 1)
    assert "overwrite it with --force" in other.err
    assert out.stat().st_mtime_ns == written


def test_given_back_and_killed_it_resumes_to_the_same_weights_bit_for_bit(
    trained: FinalModels,
    finished_digits: FinishedStudy,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    out, storage = tmp_path / "model.pt", plain(finished_digits.url)
    caplog.set_level("INFO")
    with pytest.raises(GivenBackError, match="the same command resumes it"):
        api.train("digits", out, storage=storage, timeout_min=1e-9)
    killed = subprocess.run(
        [sys.executable, "-c", DRIVER, "train", "--name", "digits", "--out", str(out)],
        cwd=ROOT,
        env={**os.environ, "ONECYCLE_STORAGE": storage},
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not out.exists()
    api.train("digits", out, storage=storage)
    assert "resumes from its checkpoint" in caplog.text
    assert same(out, trained.models[0].path)
    assert sorted(os.listdir(tmp_path)) == ["cache", "model.pt", "model.pt.json"]
    assert os.listdir(tmp_path / "cache" / "checkpoints") == []


def test_both_splits_keep_the_epochs_and_are_scored_on_the_test_split_alone(
    finished_digits: FinishedStudy, tmp_path: Path
) -> None:
    models = api.train(
        "digits",
        tmp_path / "both.pt",
        on="train+validation",
        baseline=True,
        storage=plain(finished_digits.url),
    )
    net, facts = load_final(tmp_path / "both.pt", NET)
    # 896 + 400 images in batches of 64.
    assert (facts.epochs, facts.n_steps, facts.onecycle_lr["total_steps"]) == (10, 200, 200)
    assert models.searched_steps == 140
    task = DIGITS.task.with_validation()
    classifier = Classifier(task, Site(device="cpu", data=None, cache=tmp_path))
    seen = {int(image) for image in classifier.splits.train}
    assert seen >= {int(image) for image in classifier.splits.validation}
    assert len(seen) == 1296
    assert facts.scores == {"test": classifier.evaluate(net, "test")[1]}


def numbers(first: int, end: int) -> TensorDataset:
    values = torch.arange(first, end, dtype=torch.float32)[:, None]
    return TensorDataset(values, values)


def test_a_training_of_data_sets_joins_them_and_one_of_loaders_says_why_not() -> None:
    def fit(train: Any) -> Training:
        return Training(
            model=lambda: torch.nn.Linear(1, 1),
            optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.1),
            data={"train": train, "validation": numbers(40, 60), "test": numbers(60, 70)},
            batch_size=10,
            loss=lambda model, batch: (model(batch[0]) - batch[1]).square().mean(),
            score="loss",
        )

    both = fit(numbers(0, 40)).with_validation()
    assert both.steps_per_epoch == 6
    seen = [int(value) for value, _ in both.data.get("train", {})]
    assert seen == list(range(60))
    assert len(both.data.get("test", {})) == 10
    with pytest.raises(TaskError, match=r"two map-style Datasets, and train is DataLoader"):
        fit(DataLoader(numbers(0, 40), batch_size=10)).with_validation()


class Offering(Table):
    """The trainer of the table study, which offers a model: the seed it was trained with."""

    def fit(self, run: Run) -> RunResult:
        result = super().fit(run)
        if result.outcome == "completed" and run.split is not None:
            weight = torch.tensor([float(run.seed)])
            run.trained(lambda path: torch.save({"weight": weight}, path))
        return result


SMALL = replace(
    TABLE,
    task=OwnLoop(factory=Offering, batch_size=10, steps_per_epoch=10),
    screening=Screening(n_trials=3, epochs=4),
)


class Weight(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))


def test_several_seeds_are_several_files_and_the_mean_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from search.views.terminal.final import print_models

    storage = f"sqlite:///{tmp_path}/a.db"
    api.run(SMALL, storage=storage)
    first = api.train(SMALL, tmp_path / "m.pt", seeds=2, storage=storage)
    more = api.train(SMALL, tmp_path / "m.pt", seeds=3, storage=storage)
    assert [model.is_new for model in more.models] == [False, False, True]
    assert first.models[0].facts.scores == more.models[0].facts.scores
    seeds = set()
    for k in range(3):
        net, facts = load_final(tmp_path / f"m.seed{k}.pt", Weight)
        assert isinstance(net, Weight)
        assert net.weight.item() == float(torch.tensor(float(facts.seed)))
        seeds.add(facts.seed)
    assert len(seeds) == 3
    assert max(seeds) < 2**32
    print_models(more, json=False)
    out = capsys.readouterr().out
    assert "(mean ± half of its 95 % interval, n = 3 seeds)" in out
    assert "Expect the mean: the best of several seeds is partly luck" in out
    print_models(more, json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["mean"]["validation"]["n"] == 3


def test_a_seed_of_ones_own_is_the_first(tmp_path: Path) -> None:
    asked = FinalAsked(out=tmp_path / "m.pt", n_seeds=3, seed=7)
    assert asked.seeds(study_seed=0) == (7, 8, 9)
    with pytest.raises(UsageError, match="--seed must lie between 0 and 4294967293, got"):
        FinalAsked(out=tmp_path / "m.pt", n_seeds=3, seed=2**32 - 1)


def test_a_loop_that_offers_no_model_is_told_before_its_cycle(
    finished: Finished, main_here: Callable[..., Ended], tmp_path: Path
) -> None:
    ended = main_here(
        *("train", "--name", "table", "--storage", finished.storage),
        *("--out", str(tmp_path / "m.pt")),
    )
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "add `run.trained(lambda path: torch.save(model.state_dict(), path))`" in ended.err
    assert "--changed" in ended.err


def test_a_file_that_was_changed_for_it_is_trained_when_asked_for(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = finished.copied_to(tmp_path)
    source = finished.study_file.read_text()
    study_file, out = tmp_path / "study.py", tmp_path / "m.pt"
    study_file.write_text(source)
    monkeypatch.setattr(sys, "path", sys.path[:])
    moved(storage, finished.study_file, study_file)
    study_file.write_text(
        source.replace(
            "        return result\n",
            "        import torch\n"
            "        run.trained(lambda path: torch.save({'w': torch.ones(1)}, path))\n"
            "        return result\n",
        )
    )
    with pytest.raises(ProtocolError, match=r"code of the study file.*--changed trains it"):
        api.train("table", out, storage=storage)
    models = api.train("table", out, storage=storage, changed=True)
    assert weights(out) == {"w": torch.ones(1)}
    assert models.models[0].facts.slot == models.chosen.slot
    # The rest of the protocol still holds.
    study_file.write_text(source.replace("epochs=4", "epochs=5"))
    with pytest.raises(ProtocolError, match=r"screening.epochs"):
        api.train("table", tmp_path / "other.pt", storage=storage, changed=True)


def moved(storage: str, old: Path, new: Path) -> None:
    """Let a stored study come from another file."""
    from sqlalchemy import create_engine, text

    engine = create_engine(storage)
    with engine.begin() as connection:
        connection.execute(text("UPDATE study SET spec = :new"), {"new": str(new)})
    engine.dispose()
    assert old != new


def test_a_study_that_is_not_finished_names_what_can_be_trained(tmp_path: Path) -> None:
    storage, out = f"sqlite:///{tmp_path}/a.db", tmp_path / "m.pt"
    with pytest.raises(GivenBackError):
        api.run(SMALL, storage=storage, timeout_min=1e-9)
    with pytest.raises(NoResultError, match="in its range test, which proposes the first max_lr"):
        api.train(SMALL, out, baseline=True, storage=storage)
    proposal = api.range_test(SMALL, storage=storage).proposal
    assert proposal is not None
    with pytest.raises(NoResultError, match=r"is not finished.*--baseline, or --slot N"):
        api.train(SMALL, out, storage=storage)
    (model,) = api.train(SMALL, out, baseline=True, storage=storage).models
    assert model.facts.params["max_lr"] == proposal.max_lr
    assert list(model.facts.scores) == ["validation"]
    assert "still sealed" in model.facts.notes[0]
    with pytest.raises(UsageError, match="--slot 3: study 'table' has the slots 0 to 2"):
        api.train(SMALL, tmp_path / "other.pt", slot=3, storage=storage)
    with pytest.raises(UsageError, match="has no with_validation"):
        api.train(SMALL, tmp_path / "other.pt", on="train+validation", storage=storage)


class Breaking(Offering):
    """Every cycle ends with a loss that is no number."""

    def fit(self, run: Run) -> RunResult:
        if run.split is None:
            return super().fit(run)
        for step, lr in enumerate(run.plan.lrs()):
            run.report(step, float("nan"), lrs=[lr])
        return RunResult(score=None, outcome="diverged", n_steps=40, n_images=400, seconds=0.0)


def test_a_cycle_that_breaks_writes_nothing(tmp_path: Path) -> None:
    broken = replace(SMALL, task=OwnLoop(factory=Breaking, batch_size=10, steps_per_epoch=10))
    storage, out = f"sqlite:///{tmp_path}/a.db", tmp_path / "m.pt"
    with pytest.raises(NoResultError, match="none of its 3 cycles has a usable score"):
        api.run(broken, storage=storage)
    with pytest.raises(NoResultError, match="none of its 3 cycles has a usable score"):
        api.train(broken, out, storage=storage)
    with pytest.raises(NoResultError, match=r"the cycle of slot 0 .* broke.*nothing was written"):
        api.train(broken, out, baseline=True, storage=storage)
    assert not any(out.name in name for name in os.listdir(tmp_path))


def test_a_place_that_will_not_do_is_named_before_anything_is_trained(
    finished_digits: FinishedStudy, tmp_path: Path
) -> None:
    storage = plain(finished_digits.url)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes").touch()
    (tmp_path / "file").touch()
    for out, reason in {
        "missing/m.pt": "there is no folder",
        "folder": "is a folder of something else",
        "file": "is there already; name another, or overwrite it with --force",
        "file/m.pt": "there is no folder",
    }.items():
        with pytest.raises(UsageError, match=reason):
            api.train("digits", tmp_path / out, storage=storage)
    with pytest.raises(UsageError, match="is a folder of something else"):
        api.train("digits", tmp_path / "folder", storage=storage, force=True)
    assert (tmp_path / "folder" / "notes").exists()


def test_a_folder_is_a_model_too_and_force_replaces_a_model_only(tmp_path: Path) -> None:
    class Folder(Table):
        def fit(self, run: Run) -> RunResult:
            result = super().fit(run)
            if result.outcome == "completed" and run.split is not None:
                run.trained(save_in_a_folder)
            return result

    def save_in_a_folder(path: Path) -> None:
        path.mkdir()
        (path / "config.json").write_text('{"architectures": ["BertModel"]}')
        (path / "weights").write_bytes(b"1")

    study = replace(SMALL, task=OwnLoop(factory=Folder, batch_size=10, steps_per_epoch=10))
    storage, out = f"sqlite:///{tmp_path}/a.db", tmp_path / "bert"
    api.range_test(study, storage=storage)
    models = api.train(study, out, baseline=True, storage=storage)
    assert models.loading[0] == "from transformers import BertModel"
    assert facts_of(out).seed == models.models[0].facts.seed
    with pytest.raises(DataError, match=r"holds no state_dict.*from_pretrained"):
        load_final(out, torch.nn.Linear(1, 1))
    with pytest.raises(UsageError, match="overwrite it with --force"):
        api.train(study, out, baseline=True, seed=1, storage=storage)
    api.train(study, out, baseline=True, seed=1, storage=storage, force=True)
    assert facts_of(out).seed == 1
    assert sorted(os.listdir(out)) == ["config.json", "onecycle.json", "weights"]


def test_two_processes_do_not_train_one_model(tmp_path: Path) -> None:
    storage, out = f"sqlite:///{tmp_path}/a.db", tmp_path / "m.pt"
    api.range_test(SMALL, storage=storage)

    class Twice(Offering):
        def fit(self, run: Run) -> RunResult:
            if run.plan.total_steps == 40 and run.split is not None:
                with pytest.raises(UsageError, match="another process is training this model"):
                    api.train(SMALL, out, baseline=True, storage=storage)
            return super().fit(run)

    # The definition is the same by its name: only the code of its loop differs.
    Twice.__qualname__ = Offering.__qualname__
    study = replace(SMALL, task=OwnLoop(factory=Twice, batch_size=10, steps_per_epoch=10))
    models = api.train(study, out, baseline=True, storage=storage, changed=True).models
    assert models[0].is_new


def test_deleting_a_study_takes_the_checkpoints_of_its_final_models_along(
    tmp_path: Path,
) -> None:
    storage = f"sqlite:///{tmp_path}/a.db"
    api.range_test(SMALL, storage=storage)
    with opened(storage) as engine:
        row = catalog.find(engine, "table")
        folder = catalog.final_checkpoints(row.id, tmp_path / "cache")
        folder.mkdir(parents=True)
        (folder / "0.pt").touch()
        api.run(SMALL, storage=storage)
        assert (folder / "0.pt").exists()
        catalog.delete(engine, "table")
    assert not folder.exists()


class Code:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, ("was-run",)


def test_loading_runs_nothing_that_the_files_hold(
    trained: FinalModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(Code(), tmp_path / "bad.pt")
    facts = trained.models[0].path.with_name("model.pt.json").read_text()
    (tmp_path / "bad.pt.json").write_text(facts)
    with pytest.raises(DataError, match="holds no state_dict"):
        load_final(tmp_path / "bad.pt", NET)
    assert not (tmp_path / "was-run").exists()


def test_the_lines_that_load_it_run_as_pasted(
    trained: FinalModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained.models[0].path.parent)
    page = (ROOT / "docs" / "final-model.md").read_text()
    of_the_page, *_ = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    for lines in ("\n".join(trained.loading), of_the_page):
        yours: dict[str, Any] = {}
        exec(lines, yours)
        assert yours["facts"] == trained.models[0].facts
        assert yours["model"](torch.zeros(1, 1, 8, 8)).shape == (1, 10)


def test_accuracies_that_a_loop_counts_to_100_are_shown_as_they_are(trained: FinalModels) -> None:
    def times_100(model: FinalModel) -> FinalModel:
        scores = {split: 100 * score for split, score in model.facts.scores.items()}
        return replace(model, facts=replace(model.facts, scores=scores))

    counted = replace(trained, models=tuple(times_100(model) for model in trained.models))
    for split in trained.splits:
        shown, expected = counted.metric.interval(counted.scores(split)), trained.scores(split)
        assert shown == trained.metric.interval(expected)


def test_loading_names_what_is_wrong(trained: FinalModels, tmp_path: Path) -> None:
    out = trained.models[0].path
    with pytest.raises(TaskError, match=r"holds the weights of another net: .*Missing key"):
        load_final(out, torch.nn.Linear(2, 2))
    with pytest.raises(TaskError, match=r"no model at 'studies.digits:NET'"):
        load_final(out, "studies.digits:NET")
    with pytest.raises(DataError, match=r"no model.pt.json beside it"):
        load_final(tmp_path / "model.pt", NET)
    (tmp_path / "model.pt.json").write_text("[]")
    with pytest.raises(DataError, match="holds no facts of a model"):
        load_final(tmp_path / "model.pt", NET)
