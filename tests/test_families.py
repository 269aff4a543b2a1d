"""The families that searches are judged on: what they are, their recording, and their worlds."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from benchmarks.families.design import DEFAULTS, Design, cycles, seed_of
from benchmarks.families.family import Family
from benchmarks.families.record import Call, Recording, RunAll
from benchmarks.families.table import FAMILIES, NAMES, apart_from
from benchmarks.families.world import FamilyWorld, proposal_of, world_of
from benchmarks.records import CycleRecord, Journal, Record, SweepRecord
from search.params import Params
from studies.definition import Study
from trainers.errors import DataError, TaskError, UserError
from trainers.table import TableTrainer
from trainers.task import OwnLoop
from trainers.training import Training

TINY = Family(
    name="tiny",
    kind="table",
    net="mlp_tanh",
    shape=(10, 4, 1),
    data="diabetes",
    n_classes=None,
    optimizer="sgd",
    batch_size=32,
    n_steps=60,
)
FEW = Design(n_sweeps=1, n_slow=1, n_near=2, n_far=1, n_seeds=1, n_best=1, n_all_seeds=2)


def test_the_families_are_many_and_unlike() -> None:
    every = FAMILIES.values()
    assert len(every) >= 16
    assert {f.kind for f in every} == {"images", "table", "text", "sequences"}
    assert {f.optimizer for f in every} >= {"sgd", "nesterov", "adam", "adamw", "rmsprop"}
    nets = {f.net for f in every}
    assert nets >= {"vit", "mixer", "mlp", "mlp_bn", "gru", "lstm", "bag"}
    assert nets >= {"conv_bn", "conv_gn", "conv_plain"}
    assert sum(f.n_classes is None for f in every) >= 3, "regressions"
    assert any(f.label_smoothing for f in every)
    assert min(f.n_steps for f in every) == 100
    assert max(f.n_steps for f in every) == 2000
    assert len({f.batch_size for f in every}) >= 4


def test_apart_are_those_that_share_neither_net_nor_data() -> None:
    apart = apart_from("digits-mlp")
    assert not {"digits-mlp", "digits-conv", "spirals-mlp", "friedman-mlp"} & set(apart)
    assert "cifar-conv-bn" in apart
    assert not any(name.startswith("cifar") for name in apart_from("cifar-vit"))
    assert "cifar-small" in apart_from("digits-mlp")


QUICK = ("digits-mlp", "spirals-mlp", "friedman-mlp", "tokens-transformer", "sensors-lstm")


def quick(names: Iterable[str]) -> list[object]:
    """Return names as parameters, of which one of each kind is tested by default."""
    return [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in names]


@pytest.mark.parametrize("name", quick(f.name for f in FAMILIES.values() if f.data != "cifar"))
def test_a_family_makes_a_study_of_the_product(name: str) -> None:
    family = FAMILIES[name]
    study = family.study()
    training = study.task
    assert isinstance(training, Training)
    inputs, targets = next(iter(training.data.get("validation", {})))
    model = training.model()
    model.eval()
    assert model(inputs[:8]).shape == (8, family.n_classes or 1)
    assert len(targets) == len(inputs)
    assert study.cycle_steps == family.n_steps
    assert training.adaptive == family.adaptive


def test_cifar_without_a_folder_is_refused() -> None:
    with pytest.raises(DataError, match="--data FOLDER"):
        FAMILIES["cifar-vit"].study()


def test_all_configurations_share_their_seeds() -> None:
    of_two = cycles("tiny", [0, 1], range(3))
    assert len({seed_of(work) for work in of_two}) == 3


class Killed(Exception):
    pass


def killed_after(n: int) -> RunAll:
    left = iter(range(n))

    def run_all(calls: Sequence[Call]) -> Iterator[Record]:
        for call in calls:
            if next(left, None) is None:
                raise Killed
            yield call()

    return run_all


def outcomes(folder: Path) -> dict[object, object]:
    records = Journal(folder / "tiny.jsonl").records
    timed = {"seconds": 0.0, "cpu_seconds": 0.0}
    return {work: replace(record, **timed) for work, record in records.items()}  # type: ignore[arg-type]


def test_a_recording_that_was_cut_off_in_a_line_ends_as_one_that_was_not(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    never = killed_after(1000)
    Recording(whole, [TINY], data=None, design=FEW).run(never)
    for n in (1, 6):
        with pytest.raises(Killed):
            Recording(cut, [TINY], data=None, design=FEW).run(killed_after(n))
        path = cut / "tiny.jsonl"
        path.write_bytes(path.read_bytes()[:-20])
    resumed = Recording(cut, [TINY], data=None, design=FEW)
    resumed.run(never)
    assert outcomes(cut) == outcomes(whole)
    assert len(outcomes(cut)) == FEW.n_runs
    assert not resumed.lacking()


def test_what_is_recorded_is_a_sweep_and_cycles_with_their_validation_loss(tmp_path: Path) -> None:
    Recording(tmp_path, [TINY], data=None, design=FEW).run(killed_after(1000))
    records = list(Journal(tmp_path / "tiny.jsonl").records.values())
    sweep, defaults = records[0], records[2]
    assert isinstance(sweep, SweepRecord)
    assert len(sweep.losses) > 100
    assert isinstance(defaults, CycleRecord)
    assert defaults.work.number == DEFAULTS
    assert defaults.params.items() >= {"pct_start": 0.3, "div_factor": 25.0}.items()
    assert defaults.score is not None
    assert defaults.validation_loss is not None
    # R^2 and the mean squared error of the same outputs.
    spread = (1 - defaults.score) / defaults.validation_loss
    others = [r for r in records[3:] if isinstance(r, CycleRecord) and r.score]
    assert others
    for record in others:
        assert record.score is not None
        assert record.validation_loss is not None
        assert 1 - record.score == pytest.approx(spread * record.validation_loss, rel=1e-3)


@cache
def made_up(*, common: float, deviation: float = 0.005) -> FamilyWorld:
    """Return the world of a parabola, recorded as a family is."""
    rng = np.random.default_rng(0)
    seeds = rng.standard_normal(8)
    recorded = {}
    for number in range(64):
        lr, pct_start = 10 ** rng.uniform(-2.5, 0.5), rng.uniform(0.05, 0.6)
        params = Params(max_lr=lr, pct_start=pct_start, div_factor=10 ** rng.uniform(0.5, 2))
        n_seeds = 8 if number < 20 else 2
        own = rng.standard_normal((n_seeds, 2))
        noise = common**0.5 * seeds[:n_seeds] + (1 - common) ** 0.5 * own[:, 0]
        scores = height(lr) + deviation * noise
        recorded[params] = {
            seed: (float(score), float(score - 0.01 + deviation * own[seed, 1]))
            for seed, score in enumerate(scores)
        }
    study = Study(
        name="made up",
        task=OwnLoop(factory="nowhere:none", batch_size=10, steps_per_epoch=100),
        epochs=1,
        diverged_value=0.1,
    )
    return FamilyWorld(study, recorded, [[2.0, 1.0], [2.1, 1.1], [2.2, 1.2]])


def height(max_lr: float) -> float:
    return 0.8 - 0.04 * (np.log10(max_lr) + 1) ** 2


SEEN = [Params(max_lr=lr, pct_start=0.3, div_factor=20.0) for lr in (0.03, 0.1, 0.4)]


def test_a_world_has_the_surface_and_the_noise_that_were_recorded() -> None:
    world = made_up(common=0.5)
    assert world.truth(SEEN) == pytest.approx([height(p.max_lr) for p in SEEN], abs=0.004)
    drawn = np.array([[world.score(params, seed) for seed in range(400)] for params in SEEN])
    # The mean of 400 draws, and of their deviation, within four standard errors.
    assert drawn.mean(axis=1) == pytest.approx(world.truth(SEEN), abs=4 * 0.006 / 20)
    assert world.usual == pytest.approx(0.005, rel=0.35)
    together = np.corrcoef(drawn)[0, 1]
    assert together == pytest.approx(world.shares.common, abs=0.15)


@pytest.mark.parametrize("common", [0.0, 0.5, 0.8])
def test_the_share_of_a_seed_that_all_configurations_have_is_found(common: float) -> None:
    # By the variance that these eight seeds happen to have.
    seeds = common * np.var(np.random.default_rng(0).standard_normal(8), ddof=1)
    expected = seeds / (seeds + 1 - common)
    assert made_up(common=common).shares.common == pytest.approx(expected, abs=0.15)


def test_sweeps_are_drawn_without_one_twice() -> None:
    world = made_up(common=0.0)
    drawn = world.sweeps(2, 3, seed=1)
    assert len({tuple(losses) for losses in drawn}) == 3
    with pytest.raises(TaskError, match="4 sweeps of 2 steps; recorded: 3"):
        world.sweeps(2, 4, seed=1)


def test_no_score_is_worse_than_a_broken_cycle() -> None:
    far = Params(max_lr=1e6, pct_start=0.3, div_factor=20.0)
    assert made_up(common=0.0).score(far, 0) >= 0.1
    assert made_up(common=0.0).truth([far])[0] >= 0.1


@pytest.mark.parametrize("name", quick(NAMES))
def test_the_surface_of_a_recorded_family_follows_the_means(name: str) -> None:
    world = world_of(name)
    print(world.described())
    means, better = world.surface.means, world.better
    errors = np.asarray(world.truth(list(world.recorded))) - means
    # Each mean has noise of its own, which the surface does not follow; and it smooths a cliff.
    most = 0.01 + world.usual
    assert np.sqrt(np.mean(errors[better] ** 2)) < most
    assert world.surface.held_out_of(better) < 1.5 * most


def test_a_recorded_family_can_be_searched_without_its_data() -> None:
    name = "digits-mlp"
    world = world_of(name)
    trainer = world.study.task.trainer(None)  # type: ignore[arg-type]
    assert isinstance(trainer, TableTrainer)
    assert trainer.table is world
    assert 1e-5 < proposal_of(name) < 10


def test_a_family_of_which_nothing_is_recorded_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="digits-mlp: too little is recorded"):
        world_of("digits-mlp", tmp_path)
