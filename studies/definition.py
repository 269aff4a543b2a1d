"""A study as its author writes it: what is trained, searched and confirmed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import product

from studies.given import check_part, check_task
from studies.limits import (
    GREATEST_INTEGER,
    MOST_METRIC_CHARACTERS,
    MOST_RUNS,
    MOST_SCORE,
    short,
    within,
)
from studies.params import (
    CYCLE,
    LEAVES_EDGE,
    MOVES_EDGE,
    TORCHS_OWN,
    Choice,
    Parameter,
    Value,
    parameter,
    values_of,
)
from studies.space import Space
from studies.states import Direction
from trainers.calls.lint import Call, errors
from trainers.errors import ScheduleError
from trainers.given import tidy, what
from trainers.onecycle import cycle_of
from trainers.scored import Scored
from trainers.sweeps.sweep import LEAST_STEPS
from trainers.task import Workload

# The width of the column (studies.tables.StudyRow.name).
MAX_NAME_LENGTH = 200
SAMPLERS = ("kg", "tpe", "gp", "cmaes", "qmc", "random")
_INITIAL = 8
"""Points before one of Optuna's samplers; a power of two, at which a Sobol sequence is balanced
(scipy.stats.qmc.Sobol)."""
MOST_WEIGHT_DECAY = {"sgd": 0.02, "adaptive": 0.1}
"""A larger one moves the edge by more than the noise of a sweep, so that one range test would not
do for the whole range (docs/log.md); by the type of optimizer."""


def _at_least(low: int, **values: int) -> None:
    for name, value in values.items():
        # Not isinstance: True is an int.
        if type(value) is not int or value < low:
            raise ValueError(f"{name} must be a whole number of at least {low}, got {value!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class RangeTest:
    """Seeded sweeps of `n_steps` optimizer steps each, from `start_lr` to `end_lr`: two where they
    agree, else `n_sweeps` at most and a slow one of twice the steps (trainers.sweeps.stopping).

    The reading moves with the number of steps, so it is part of the protocol, and the slow sweep
    tells how far; fewer than 100 say little.

    `n_sweeps=0` skips it, and Space(max_lr=...) says where to search. Sweeps that find no bracket
    end a study only where it is `required`; else a wide range is searched
    (trainers.sweeps.ranges).
    """

    # One sweep lost up to 2.4 points in `no-norm`, the median of five at most 0.3
    # (docs/benchmarks.md); more than two are made only where these disagree.
    n_sweeps: int = 5
    # In `cifar-small` the edge moves by 0.9 decades from 100 to 200 steps, then stands still.
    n_steps: int = 200
    start_lr: float = 1e-5
    end_lr: float = 10.0
    required: bool = False

    def __post_init__(self) -> None:
        tidy(self)
        _at_least(0, n_sweeps=self.n_sweeps)
        if type(self.required) is not bool:
            raise ValueError(f"required must be True or False, got {self.required!r}")
        if self.required and not self.n_sweeps:
            raise ValueError("required=True needs sweeps: n_sweeps must be at least 1, got 0")
        _at_least(LEAST_STEPS, n_steps=self.n_steps)
        if not 0 < self.start_lr < self.end_lr < math.inf:
            raise ValueError(
                f"start_lr must lie above 0 and below end_lr, "
                f"got start_lr={self.start_lr:g}, end_lr={self.end_lr:g}"
            )

    @property
    def slow_steps(self) -> int:
        """Optimizer steps of the slow sweep."""
        return 2 * self.n_steps


class _Taken(int):
    """Epochs that were taken from where they are said; they give way to those said later."""


def _check_epochs(epochs: int) -> None:
    _at_least(1, epochs=int(epochs) if isinstance(epochs, _Taken) else epochs)


def _check_stop_below(value: object, *, exact: bool) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 < float(value) < math.inf:  # type: ignore[arg-type]
        raise ValueError(
            f"stop_below must be a number above 0 in the unit of the metric, got {value!r}; "
            "exact=True trains all n_trials"
        )
    if exact:
        raise ValueError(
            f"exact=True trains all n_trials, so stop_below={value:g} would mean nothing: "
            "leave one of the two out"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Screening:
    """At most `n_trials` configurations, each trained for one complete cycle of `epochs`: the
    study's, where it is not said here.

    The search ends by itself once one more cycle is expected to gain less than `stop_below`, in
    the unit of the metric (None: 0.05 points of an accuracy, or as much of another metric). Where
    the number is `exact`, all `n_trials` are trained.

    After the first choices (search.stages.first), of which the baseline is one, and `n_initial`
    points of a scrambled Sobol sequence the `sampler` proposes: the knowledge gradient
    (search.stages.propose) or one of Optuna's. `n_initial` is 0 for `kg` and 8 for the others
    where it is not said.
    """

    # After 20 cycles 12 more gained nothing that was shown; --trials changes it.
    n_trials: int = 24
    epochs: int | None = None
    sampler: str = "kg"
    n_initial: int = None  # type: ignore[assignment]
    exact: bool = False
    stop_below: float | None = None

    def __post_init__(self) -> None:
        tidy(self)
        _at_least(1, n_trials=self.n_trials)
        if self.epochs is not None:
            _check_epochs(self.epochs)
        if self.sampler not in SAMPLERS:
            raise ValueError(f"sampler must be one of {', '.join(SAMPLERS)}, got {self.sampler!r}")
        if self.n_initial is None:
            object.__setattr__(self, "n_initial", 0 if self.sampler == "kg" else _INITIAL)
        _at_least(0, n_initial=self.n_initial)
        if type(self.exact) is not bool:
            raise ValueError(f"exact must be True or False, got {self.exact!r}")
        if self.stop_below is not None:
            _check_stop_below(self.stop_below, exact=self.exact)


@dataclass(frozen=True, kw_only=True, slots=True)
class Confirmation:
    """The `n_finalists` best by expected score and the baseline race with fresh seeds; the best
    of them is then paired with the baseline, for at most `n_seeds` further seeds.

    Pairs end early once they show a difference, or will hardly show one
    (search.stages.sequential).
    """

    n_finalists: int = 3
    n_seeds: int = 10

    def __post_init__(self) -> None:
        tidy(self)
        _at_least(1, n_finalists=self.n_finalists)
        _at_least(2, n_seeds=self.n_seeds)


_PARTS = {
    "screening": Screening,
    "range_test": RangeTest,
    "space": Space,
    "confirmation": Confirmation,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """One question: which max_lr, pct_start and div_factor for this task and cycle length?

    A space that holds more parameters adds these to the question.

    `epochs` is the length of a cycle; `screening` may say it as well. `metric` names what the
    trainer's score is; accuracies are shown in percent. It and `direction` follow from the task
    where that says what it scores; a loop of one's own maximises an accuracy unless told.

    `diverged_value` is what a cycle that broke is worth: for accuracy, 1 / number of classes. A
    score that is worse, or no number, counts as that. None, for a task that can measure it: the
    score of the untrained model, which is stored when the study is made.
    """

    name: str
    task: Workload
    epochs: int = None  # type: ignore[assignment]
    screening: Screening = field(default_factory=Screening)
    diverged_value: float | None = None
    direction: Direction = None  # type: ignore[assignment]
    metric: str = None  # type: ignore[assignment]
    range_test: RangeTest = field(default_factory=RangeTest)
    space: Space = field(default_factory=Space)
    confirmation: Confirmation = field(default_factory=Confirmation)

    def __post_init__(self) -> None:
        tidy(self)
        check_name(self.name)
        check_task(self.task)
        for name, kind in _PARTS.items():
            check_part(name, getattr(self, name), kind)
        self._fill_in_epochs()
        self._fill_in_the_score()
        if self.direction not in ("maximize", "minimize"):
            raise ValueError(f"direction must be maximize or minimize, got {self.direction!r}")
        if not self.range_test.n_sweeps and self.space.max_lr is None:
            raise ValueError(
                "n_sweeps=0 skips the range test, so the study must say where to search: "
                "give Space(max_lr=(low, high)), or at least 1 sweep"
            )
        if self.space.weight_decay is not None:
            self._check_weight_decay(*self.space.weight_decay)
        if self.space.batch_size is not None and self.task.batch_size not in self.space.batch_size:
            raise ValueError(
                f"batch_size must hold the task's own, {self.task.batch_size}, which the baseline "
                f"has; got {self.space.batch_size}"
            )
        # A task may have more to say of what is searched than own_values() tells.
        check = getattr(self.task, "check_searched", None)
        if check is not None:
            told = (*self.space.domains(), *self.space.fixed())
            check(tuple(n for n in told if n not in (*CYCLE, *TORCHS_OWN)))
        for name in self.space.extra:
            if name in TORCHS_OWN:
                self._check_torchs_own(name)
            else:
                self._check_extra(name)
        _check_limits(self)
        # A folder of images says later how many there are, and all is checked again.
        if self.is_counted:
            _check_lengths(self)
            for batch_size in self.batch_sizes:
                self._check_cycles(self.steps_of(self.epochs, batch_size=batch_size))

    def _fill_in_epochs(self) -> None:
        """Have both places say the epochs; those said come first, and two must be the same."""
        both = (self.epochs, self.screening.epochs)
        said = [n for n in both if n is not None and not isinstance(n, _Taken)]
        epochs = next((n for n in (*said, *both) if n is not None), None)
        if epochs is None:
            raise ValueError("epochs is needed, the length of a cycle: Study(epochs=10, ...)")
        _check_epochs(epochs)
        if len(set(said)) > 1:
            raise ValueError(
                f"epochs is {said[0]} in the study and {said[1]} in its screening: say it once"
            )
        if self.epochs is None or isinstance(self.epochs, _Taken):
            object.__setattr__(self, "epochs", _Taken(epochs))
        if self.screening.epochs is None or isinstance(self.screening.epochs, _Taken):
            screening = replace(self.screening, epochs=_Taken(epochs))
            object.__setattr__(self, "screening", screening)

    def _fill_in_the_score(self) -> None:
        """Take metric, direction and diverged_value from the task; refuse what contradicts it."""
        scored: Scored | None = getattr(self.task, "scored", None)
        if scored is None:
            scored = Scored(
                "accuracy" if self.metric is None else self.metric,
                "maximize" if self.direction is None else self.direction,
            )
            if self.diverged_value is None:
                raise ValueError(
                    "diverged_value is needed: the score of a cycle that broke, such as 0.1 for "
                    "an accuracy over 10 classes"
                )
        for name in ("metric", "direction"):
            known, given = getattr(scored, name), getattr(self, name)
            if given is None:
                object.__setattr__(self, name, known)
            elif given != known:
                raise ValueError(
                    f"{name} must be {known!r}, which the task scores, got {given!r}; leave "
                    f"{name} out, or give the task another score"
                )
        if self.diverged_value is None:
            object.__setattr__(self, "diverged_value", scored.diverged_value)

    def _check_extra(self, name: str) -> None:
        known = self.task.own_values()
        if name not in known and not self.task.takes_any:
            raise ValueError(
                f"extra[{name!r}]: the bundled loop has no such parameter; it has "
                f"{', '.join(sorted(known))}, and a loop of your own may have any"
            )
        domain = self.space.extra_domains().get(name)
        if domain is None or domain.baseline is not None:
            return
        own = known.get(name)
        if own is None:
            raise ValueError(
                f"extra[{name!r}]: the baseline's value is not known; say it, as in "
                f"Range(low, high, baseline=...) or Choice((...), baseline=...)"
            )
        if not domain.holds(own):
            raise ValueError(
                f"extra[{name!r}] must hold the task's own, {own!r}, which the baseline has; "
                f"got {domain}"
            )

    def _check_torchs_own(self, name: str) -> None:
        domain, default = self.space.extra_domains().get(name), parameter(name).baseline
        if domain is None or domain.baseline is not None or default is None:
            return
        if not domain.holds(default):
            raise ValueError(
                f"extra[{name!r}] must hold torch's default, {default!r}, which the baseline has; "
                f"got {domain}; or say another one, as in Range(low, high, baseline=...)"
            )

    def _check_weight_decay(self, low: float, high: float) -> None:
        own, got = self.task.weight_decay, f"got {(low, high)}"
        if own is None:
            raise ValueError(
                f"weight_decay cannot be searched, {got}: the task's own, which the baseline has, "
                "is not known; OwnLoop(weight_decay=...) says it, or the default of a function's "
                "parameter of that name"
            )
        most = MOST_WEIGHT_DECAY["adaptive" if self.task.adaptive else "sgd"]
        if high > most:
            kind = "Adam" if self.task.adaptive else "SGD"
            raise ValueError(
                f"weight_decay must be at most {most:g} with an {kind}-type optimizer, "
                f"{got}: a larger one moves the edge, and all share one range test"
            )
        if not low <= own <= high:
            raise ValueError(
                f"weight_decay must hold the task's own, {own:g}, which the baseline has; {got}"
            )

    def _check_cycles(self, shortest: int) -> None:
        """Refuse a space with a corner that is no cycle; a shortest one has `shortest` steps."""
        ends = {name: values_of(domain) for name, domain in self.space.domains().items()}
        ends |= {name: (value,) for name, value in self.space.fixed().items()}
        warm_up_steps = float(ends["pct_start"][0]) * shortest
        if warm_up_steps < 2:
            high = float(ends["pct_start"][-1])
            least = math.ceil(200 / shortest) / 100
            wider = f", as in Space(pct_start=({least:g}, {high:g}))" if least < high else ""
            raise ValueError(
                f"a cycle of {shortest} steps leaves {warm_up_steps:.2g} warm-up steps at "
                f"pct_start={ends['pct_start'][0]:g}; at least 2 are needed: "
                f"train longer or raise pct_start{wider}"
            )
        names = [name for name in ends if name in (*CYCLE, *TORCHS_OWN)]
        for values in product(*(ends[name] for name in names)):
            # What the lint says does not depend on max_lr.
            corner = {"max_lr": 1.0, **dict(zip(names, values, strict=True))}
            try:
                schedule = cycle_of(corner, shortest).schedule
            except ScheduleError as error:
                raise ValueError(f"a corner of the space is no cycle: {error}") from None
            for finding in errors(Call(schedule=schedule)):
                raise ValueError(f"a corner of the space is no cycle: {finding.line()}")

    @property
    def is_counted(self) -> bool:
        """Whether the steps of an epoch are known; else Task.counted() must come first."""
        return bool(getattr(self.task, "is_counted", True))

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The batch sizes that are trained with, the task's own first."""
        own = self.task.batch_size
        return (own, *(size for size in self.space.batch_size or () if size != own))

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """What is searched beside max_lr, each with its domain and its baseline's value."""
        return self.space.parameters(self.task.own_values())

    @property
    def settings(self) -> tuple[Mapping[str, Value], ...]:
        """The settings that have a range test of their own, the baseline's first.

        All combinations of what moves the edge (studies.params.MOVES_EDGE) and is searched; an
        empty one where nothing of the kind is.
        """
        axes: dict[str, tuple[Value, ...]] = {}
        if self.space.batch_size is not None:
            axes["batch_size"] = self.batch_sizes
        for each in self.parameters:
            if each.name in MOVES_EDGE and each.name not in axes:
                assert each.domain is not None
                assert each.baseline is not None
                if isinstance(each.domain, Choice):
                    own = each.baseline
                    axes[each.name] = (own, *(v for v in each.domain.values if v != own))
        return tuple(dict(zip(axes, values, strict=True)) for values in product(*axes.values()))

    @property
    def swept_settings(self) -> tuple[Mapping[str, Value], ...]:
        """The settings that have a range test, the baseline's first.

        A range of max_lr of one's own holds at all of them, and only the baseline's is swept.
        """
        if not self.range_test.n_sweeps:
            return ()
        return self.settings if self.space.max_lr is None else self.settings[:1]

    @property
    def may_move_edge(self) -> bool:
        """Whether max_lr is sampled as a multiple of the proposal, for the edge may move."""
        searched = (each.name for each in self.parameters if each.name not in CYCLE)
        return any(name not in LEAVES_EDGE for name in searched)

    def told_outside(self, setting: Mapping[str, Value] | None = None) -> dict[str, Value]:
        """Return what a run that is no cycle of the search is told: the baseline's extra values.

        `setting`: that of a sweep, where several have one.
        """
        extra = [p for p in self.parameters if p.name in self.space.extra]
        told = {p.name: p.baseline for p in extra if p.baseline is not None}
        told |= self.space.fixed()
        return {n: v for n, v in (told | dict(setting or {})).items() if n not in TORCHS_OWN}

    @property
    def sweep_momentum(self) -> float | None:
        """The momentum of a sweep: the baseline's at its peak; None where none is cycled."""
        own = {p.name: p.baseline for p in self.parameters} | self.space.fixed()
        if own.get("cycle_momentum", True) is False:
            return None
        return float(own.get("base_momentum") or 0.85)

    @property
    def cycle_steps(self) -> int:
        """Optimizer steps of one complete cycle, at the task's batch size."""
        return self.steps_of(self.epochs)

    def steps_of(self, epochs: int, *, batch_size: int | None = None) -> int:
        """Return the optimizer steps of a cycle: epochs x steps per epoch.

        `batch_size`: the task's own where it is None.
        """
        return epochs * self.task.at(batch_size=batch_size).steps_per_epoch


def _check_limits(study: Study) -> None:
    """Raise ValueError for the first field of a study that the database could not hold."""
    metric, worst = study.metric, study.diverged_value
    plain = isinstance(metric, str) and metric.isprintable() and metric.strip()
    if not plain or len(metric) > MOST_METRIC_CHARACTERS:
        raise ValueError(
            f"metric must be plain text of 1 to {MOST_METRIC_CHARACTERS} characters, "
            f"got {short(metric)}"
        )
    number = isinstance(worst, (int, float)) and not isinstance(worst, bool)
    if worst is not None and (not number or not abs(worst) <= MOST_SCORE):
        raise ValueError(
            f"diverged_value must be a number of at most {MOST_SCORE:g}, got {short(worst)}"
        )
    sweeps, confirmation = study.range_test, study.confirmation
    within(1, MOST_RUNS, n_trials=study.screening.n_trials)
    within(0, MOST_RUNS, n_initial=study.screening.n_initial)
    within(0, MOST_RUNS // len(study.settings) - 1, n_sweeps=sweeps.n_sweeps)
    within(1, MOST_RUNS, n_finalists=confirmation.n_finalists)
    within(1, MOST_RUNS // (confirmation.n_finalists + 1), n_seeds=confirmation.n_seeds)
    within(1, GREATEST_INTEGER // 2, n_steps=sweeps.n_steps)


def _check_lengths(study: Study) -> None:
    for size in study.batch_sizes:
        steps = study.steps_of(1, batch_size=size)
        within(1, GREATEST_INTEGER, batch_size=size, steps_per_epoch=steps)
        within(1, GREATEST_INTEGER // steps, epochs=study.epochs)


def check_name(name: str) -> None:
    """Raise ValueError for text that cannot name a study (a path, a Python file)."""
    if not isinstance(name, str):
        raise ValueError(f"name must be a text, got {what(name)}")
    plain = name.isprintable() and name == name.strip() and 0 < len(name) <= MAX_NAME_LENGTH
    if not plain or "/" in name or name.endswith(".py"):
        raise ValueError(
            f"name must be plain text of at most {MAX_NAME_LENGTH} characters "
            f"without '/' or '.py', got {name!r}"
        )
