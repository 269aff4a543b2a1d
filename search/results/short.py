"""A study's answer in three lines: what to call, what it scored, and what that shows."""

from typing import TYPE_CHECKING

from search.text import printable

if TYPE_CHECKING:
    from search.results.result import StudyResult


def short_text(result: "StudyResult") -> str:
    """Return study and recommended call, score with its interval and n, and the verdict."""
    return "\n".join(
        [
            f"StudyResult {printable(result.name)}: {call_line(result)}",
            f"  {score_text(result)}",
            f"  {printable(result.verdict())}",
        ]
    )


def call_line(result: "StudyResult") -> str:
    """Return the recommended call in one line, with what the training has beside the cycle."""
    params = result.recommended.params
    # The number is the study's; the reader's loop has its own, so an expression stands for it.
    steps = "epochs * len(train_loader)"
    call = " ".join(result.plan.call(total_steps=steps, driven=result.driven).split())
    call = call.replace("( ", "(").replace(", )", ")").removeprefix("torch.optim.lr_scheduler.")
    told = ", ".join(
        f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value!r}"
        for name, value in params.of_the_task().items()
    )
    return f"{call} with {told}" if told else call


def score_text(result: "StudyResult") -> str:
    """Return the validation score of the recommended configuration, and of the baseline."""
    metric, chosen = result.metric, result.recommended
    n = chosen.validation.n
    text = (
        f"{printable(metric.name)} {metric.interval(chosen.scores)}{metric.unit} on validation, "
        f"95 % interval, n = {n} fresh seeds, {result.n_trials} trials of {result.epochs} epochs"
    )
    if chosen.is_baseline:
        return f"{text}; this is the baseline"
    return f"{text}; baseline {metric.interval(result.baseline.scores)}{metric.unit}"
