"""The pitfalls of OneCycleLR: what goes wrong, why it hurts, and where it can be seen."""

from dataclasses import dataclass
from typing import Literal

Seen = Literal["plan", "log", "audit"]
"""plan: from the call alone, before training; log: from printed rates; audit: while training."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pitfall:
    """One way to misuse OneCycleLR, and what says its name when it is there."""

    number: int
    name: str
    what: str
    why: str
    seen: tuple[Seen, ...]


PITFALLS = (
    Pitfall(
        number=1,
        name="stepped-per-epoch",
        what="scheduler.step() is called once or a few times an epoch",
        why="The rate crawls along the warm-up and never comes near max_lr.",
        seen=("log", "audit"),
    ),
    Pitfall(
        number=2,
        name="total-steps-too-big",
        what="total_steps is more than the optimizer steps that are taken",
        why="The rate is still high when training ends, so the anneal that gives the accuracy "
        "never happens.",
        seen=("plan", "audit"),
    ),
    Pitfall(
        number=3,
        name="total-steps-too-small",
        what="total_steps is less than the optimizer steps that are taken",
        why="Training breaks off with a ValueError.",
        seen=("plan", "audit"),
    ),
    Pitfall(
        number=4,
        name="step-after-the-end",
        what="scheduler.step() is called once more after the last optimizer step",
        why="torch accepts it and extrapolates: the cosine climbs again, the linear form goes "
        "below 0; no step of a whole cycle uses that rate, but logs and checkpoints show it.",
        seen=("audit",),
    ),
    Pitfall(
        number=5,
        name="warm-up-skipped",
        what="pct_start leaves less than one warm-up step, or exactly one",
        why="torch starts at max_lr without a warm-up, or divides by zero.",
        seen=("plan", "audit"),
    ),
    Pitfall(
        number=6,
        name="no-anneal",
        what="pct_start leaves fewer than two steps to anneal",
        why="Training ends at the highest rate; at pct_start=1.0 the last scheduler.step() "
        "divides by zero.",
        seen=("plan", "audit"),
    ),
    Pitfall(
        number=7,
        name="peak-missed",
        what="the peak falls between two steps of a short cycle",
        why="No step runs at max_lr, so the max_lr that you tuned is not the one in use.",
        seen=("plan", "audit"),
    ),
    Pitfall(
        number=8,
        name="third-phase-cut",
        what="three_phase with a pct_start that leaves no room for the third phase",
        why="The rate never falls to its last value, or falls off a cliff in one step.",
        seen=("plan", "audit"),
    ),
    Pitfall(
        number=9,
        name="divisor-below-one",
        what="div_factor or final_div_factor turns the cycle upside down",
        why="The rate starts or ends above where it should be lowest; torch checks neither.",
        seen=("plan", "audit"),
    ),
    Pitfall(
        number=10,
        name="last-rate-misread",
        what="final_div_factor is relative to the first rate, not to max_lr",
        why="The last rate is max_lr / (div_factor * final_div_factor); values copied from "
        "libraries that divide max_lr end elsewhere.",
        seen=("plan", "audit"),
    ),
    Pitfall(
        number=11,
        name="optimizer-lr-overwritten",
        what="the optimizer's own lr is not used",
        why="OneCycleLR sets every rate itself, and one max_lr makes all param groups equal.",
        seen=("plan",),
    ),
    Pitfall(
        number=12,
        name="momentum-overwritten",
        what="cycle_momentum overwrites the optimizer's momentum (Adam: beta1)",
        why="A momentum that was off is switched on, and a tuned one is not used.",
        seen=("plan",),
    ),
    Pitfall(
        number=13,
        name="resumed-without-state",
        what="a resumed run lost the state of its optimizer or scheduler",
        why="The first step after it runs at another rate, or the whole cycle starts again.",
        seen=("log", "audit"),
    ),
    Pitfall(
        number=14,
        name="scheduler-before-optimizer",
        what="the scheduler runs one step ahead of the optimizer",
        why="The first rate is lost, and the last one comes from beyond the end.",
        seen=("audit",),
    ),
    Pitfall(
        number=15,
        name="stepped-twice",
        what="two owners (framework and loop) step one scheduler",
        why="The cycle is over at half of the training, where torch raises ValueError.",
        seen=("log", "audit"),
    ),
    Pitfall(
        number=16,
        name="short-warm-up",
        what="the warm-up has so few steps that the rate leaps",
        why="Each step is trained at a much higher rate than the one before.",
        seen=("plan", "audit"),
    ),
    Pitfall(
        number=17,
        name="batch-size-as-steps",
        what="steps_per_epoch is the size of a batch, not their number",
        why="total_steps comes out wrong: it counts batches, len(train_loader) of them an epoch.",
        seen=("plan",),
    ),
)

BY_NAME = {pitfall.name: pitfall for pitfall in PITFALLS}
