"""What a study's answer rests on, in words: terminal, page and merge request say the same."""

from collections.abc import Sequence

from search.params import Params
from search.results.result import Candidate, StudyResult
from search.results.spent import StageSpent
from search.starting.cost import duration_text
from trainers.sweeps.result import conclusion, count


def candidate_name(candidate: Candidate, result: StudyResult) -> str:
    """Return 'slot 7', marked as baseline and as winner."""
    marks = ["baseline"] if candidate.is_baseline else [f"slot {candidate.slot}"]
    if candidate.slot == result.winner.slot:
        marks.append("(winner)")
    return " ".join(marks)


CANDIDATE_HEADINGS = ("configuration", "max_lr", "pct_start", "div_factor", "validation", "test")
SEARCHED_TOO = ("weight_decay", "batch_size")
"""Parameters that are shown of studies that search them."""


def searched_too(result: StudyResult) -> list[str]:
    """Return which of SEARCHED_TOO the study searched."""
    return [name for name in SEARCHED_TOO if getattr(result.winner.params, name) is not None]


def candidate_headings(result: StudyResult) -> tuple[str, ...]:
    """Return CANDIDATE_HEADINGS with what the study searched beside these parameters."""
    *first, validation, test = CANDIDATE_HEADINGS
    return (*first, *searched_too(result), validation, test)


def candidate_cells(candidate: Candidate, result: StudyResult) -> tuple[str, ...]:
    """Return a row under candidate_headings(); scores are means ± half of their 95 % interval."""
    params, interval = candidate.params, result.metric.interval
    return (
        candidate_name(candidate, result),
        *params_cells(params, result),
        interval(candidate.scores),
        "sealed" if candidate.test is None else interval(candidate.test),
    )


def params_cells(params: Params, result: StudyResult) -> list[str]:
    """Return what was searched as text, in the order of candidate_headings()."""
    return [
        f"{params.max_lr:.3g}",
        f"{params.pct_start:.2f}",
        f"{params.div_factor:.3g}",
        *(f"{getattr(params, name):.3g}" for name in searched_too(result)),
    ]


def call_lines(result: StudyResult) -> list[str]:
    """Return the winner as Python source for the reader's own loop, total_steps explained."""
    steps = result.epochs * result.steps_per_epoch
    decay = result.winner.params.weight_decay
    return [
        "In your own loop (scheduler.step() once after every optimizer.step(), not per epoch):",
        "",
        "scheduler = " + result.plan.call(total_steps="epochs * len(train_loader)"),
        "",
        "# total_steps counts optimizer steps, neither epochs nor images of a batch:",
        f"# here {count(result.epochs, 'epoch')} x {result.steps_per_epoch} batches of "
        f"{result.batch_size} images = {steps}.",
        *([] if decay is None else [f"# The optimizer has weight_decay={decay:.6g}."]),
    ]


def fact_lines(result: StudyResult) -> list[str]:
    """Return what the answer rests on, a fact a line."""
    return [
        *range_test_lines(result),
        region_text(result),
        importance_text(result),
        noise_text(result),
        f"comparisons made on the test split: {result.n_comparisons}",
    ]


def range_test_lines(result: StudyResult) -> list[str]:
    """Return what the sweeps say, batch size by batch size where several were searched."""
    if not result.range_tests:
        return ["range test: " + line for line in conclusion(result.range_test)]
    return [
        f"range test, batch_size {size}: {line}"
        for size, said in result.range_tests.items()
        for line in conclusion(said)
    ]


def importance_text(result: StudyResult) -> str:
    """Return each parameter's share of the variance, and what share is a seed's noise."""
    screen = result.screens[0]
    shares = ", ".join(f"{name} {share:.0%}" for name, share in result.importances.items())
    text = (
        f"importance (fANOVA, {result.n_trials} configurations at "
        f"{count(screen.epochs, 'epoch')} of which {result.n_diverged} diverged): "
        f"{shares or 'nothing to explain'}"
    )
    if result.noise_floor is None or result.search_noise is None:
        return text
    deviation = result.metric.difference(result.search_noise.deviation)
    return (
        f"{text}; of that variance at most about {result.noise_floor:.0%} is a seed's noise (sd "
        f"{deviation}, from nearest neighbours)"
    )


def noise_text(result: StudyResult) -> str:
    """Return the deviation of a score over seeds beside that over configurations."""
    return (
        f"noise of a seed: sd {result.metric.difference(result.noise.deviation)} (from the "
        f"confirmation's seeds, {result.noise.freedom} degrees of freedom); spread over the "
        f"configurations: sd {result.metric.difference(result.screens[0].spread)}"
    )


def region_text(result: StudyResult) -> str:
    """Return the optimum as far as one seed each tells."""
    region = result.region
    return (
        f"within noise of the best: {len(region.slots)} of {region.n_cycles} configurations at "
        f"{count(result.epochs, 'epoch')}, n = 1 seed each: {region}"
    )


def cost_text(stages: Sequence[StageSpent]) -> str:
    """Return what each stage has cost."""
    return "; ".join(
        f"{s.name} {s.n_runs} runs, {s.n_images:,} images, {duration_text(s.seconds)}"
        for s in stages
    )
