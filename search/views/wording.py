"""What a study's answer rests on, in words: terminal, page and merge request say the same."""

from collections.abc import Mapping, Sequence

from search.params import Params
from search.results.candidate import Candidate
from search.results.export import Cycle, optimizer_lines
from search.results.result import StudyResult
from search.results.spent import StageSpent
from search.starting.cost import duration_text
from studies.answer import Estimate
from studies.params import setting_text, span_text
from trainers.sweeps.judgement import Proposal
from trainers.sweeps.result import baseline_text, conclusion, count, spread_lines


def candidate_name(candidate: Candidate, result: StudyResult) -> str:
    """Return 'slot 7', marked where it is the answer, or the pick that is not."""
    for mark, marked in (("answer", result.recommended), ("pick", result.winner)):
        if candidate.slot == marked.slot:
            return f"{candidate.name} ({mark})"
    return candidate.name


def seeds_text(scores: Sequence[Sequence[float]]) -> str:
    """Return over how many seeds each of the means is taken: '5 seeds' or '4 to 5 seeds'."""
    counts = sorted({len(values) for values in scores})
    return " to ".join(str(n) for n in dict.fromkeys((counts[0], counts[-1]))) + " seeds"


def candidate_headings(result: StudyResult) -> tuple[str, ...]:
    """Return the headings of candidate_cells()."""
    return ("configuration", *_searched(result), "validation", "test")


def _searched(result: StudyResult) -> list[str]:
    """Return the parameters in which configurations differ."""
    return [name for name in result.parameters if name not in result.fixed]


def candidate_cells(candidate: Candidate, result: StudyResult) -> tuple[str, ...]:
    """Return a row under candidate_headings(); scores are means ± half of their 95 % interval."""
    interval = result.metric.interval
    return (
        candidate_name(candidate, result),
        *(candidate.params.texts()[name] for name in _searched(result)),
        interval(candidate.scores),
        interval(candidate.test) if candidate.test else "sealed" if result.has_test else "none",
    )


def params_cells(params: Params) -> list[str]:
    """Return the values of a configuration as text, in the order of the study's parameters."""
    return list(params.texts().values())


CALL_EXPLAINED = (
    "In your own loop (scheduler.step() once after every optimizer.step(), not per epoch):"
)
"""What stands above call_code()."""

TRAIN_EXPLAINED = "Or train what the verdict recommends here, and get its weights:"
"""What stands above the command that trains the final model."""


def call_code(result: StudyResult) -> str:
    """Return the answer as Python source for the reader's own loop, total_steps explained."""
    return code_of(result, result.recommended.params)


def code_of(result: Cycle, params: Params) -> str:
    """Return a configuration's cycle as the same; `params` are what it trains with."""
    steps = result.epochs * result.steps_per_epoch
    told = params.of_the_task()
    others = [
        f"# The training has {name}={value!r}."
        for name, value in told.items()
        if name != "batch_size"
    ]
    return "\n".join(
        [
            # An expression, not our number: the reader's batches may differ from the study's.
            "scheduler = "
            + result.plan.call(total_steps="epochs * len(train_loader)", driven=result.driven),
            "",
            "# total_steps counts optimizer steps, neither epochs nor "
            f"{result.trained_on} of a batch:",
            f"# here {count(result.epochs, 'epoch')} x {result.steps_per_epoch} batches of "
            f"{result.batch_size} {result.trained_on} = {steps}.",
            *others,
            *(f"# {line}" for line in optimizer_lines(result)),
        ]
    )


def answer_lines(result: StudyResult) -> list[str]:
    """Return what stands beside the answer: the alternative, how near the best it is, and more."""
    lines = (
        _alternative_text(result),
        _chance_text(result),
        hour_text(result),
        _search_end_text(result),
    )
    return [line for line in lines if line]


def _alternative_text(result: StudyResult) -> str:
    other, comparison = result.alternative, result.shown
    if other is None:
        return ""
    flag = "--baseline" if other.is_baseline else f"--slot {other.slot}"
    text = f"the alternative (train {flag}): {other.name}, {other.params}"
    if comparison is None:
        return text
    gain = comparison.difference
    if other.is_baseline:
        gain = Estimate(-gain.mean, -gain.high, -gain.low, gain.n)
    split = "the test split" if result.has_comparison else "validation"
    said = "shown to be worse" if comparison.shown else "not shown to be better or worse"
    return f"{text}; {said}: {result.metric.estimate(gain)}, on {split}"


def _chance_text(result: StudyResult) -> str:
    if result.chance is None or result.margin is None:
        return ""
    text = (
        f"the chance that the answer is within {result.metric.difference(result.margin)} of the "
        f"best in the range searched: {_percent(result.chance)}"
    )
    other = result.alternative
    # The best finalist beside a baseline that was picked has none: it did not come so far.
    if other is None or result.other_chance is None or result.winner.is_baseline:
        return text
    return f"{text}; of the alternative: {_percent(result.other_chance)}"


def _percent(chance: float) -> str:
    """Return a chance as text; a model's certainty is not certainty."""
    text = f"{chance:.0%}"
    return {"0%": "under 1%", "100%": "over 99%"}.get(text, text)


def hour_text(result: StudyResult) -> str:
    """Return what one more hour is expected to buy, '' where that was not computed."""
    hour = result.one_more_hour
    if hour is None:
        return ""
    gain = "nothing to speak of"
    if result.is_worth_an_hour:
        gain = f"about {result.metric.difference(hour.gain)}"
    cycles = count(hour.n_cycles, "cycle")
    return f"one more hour at most (about {cycles}) is expected to gain {gain}"


def _search_end_text(result: StudyResult) -> str:
    end = result.search_end
    if end is None:
        return ""
    gain = result.metric.difference(end.gain)
    text = (
        f"the search ended by itself, after {end.n_cycles} of at most {end.at_most} "
        f"configurations: one more was expected to gain {gain}"
    )
    if end.unvisited is None:
        return text
    return f"{text}; slot {end.unvisited} came last: expected to be the best, and not yet tried"


def fact_lines(result: StudyResult) -> list[str]:
    """Return what the answer rests on, a fact a line."""
    return [
        *range_test_lines(result),
        *baseline_lines(result),
        region_text(result),
        *([] if result.expected is None else [near_best_text(result)]),
        importance_text(result),
        noise_text(result),
        f"comparisons made on the test split: {result.n_comparisons}",
    ]


def baseline_lines(result: StudyResult) -> list[str]:
    """Return what the pick is compared with, and what the study held at one value."""
    own = Params(**{n: v for n, v in result.baseline.params.items() if n not in result.fixed})
    lines = [f"baseline: torch's default 1cycle at {baseline_text(result.proposal)}: {own}"]
    if result.fixed:
        held = Params(**{name: result.recommended.params[name] for name in result.fixed})
        lines.append(f"held fixed in all of them: {held}")
    return lines


def range_test_lines(result: StudyResult) -> list[str]:
    """Return what the sweeps say, setting by setting where several have one."""
    return proposal_lines(result.proposal, result.proposals)


def proposal_lines(own: Proposal, by_setting: Mapping[str, Proposal]) -> list[str]:
    """Return what the sweeps say, and how far from their proposal the best max_lr may lie."""
    lines = [
        f"range test, {setting_text(key)}: {line}"
        for key, proposal in by_setting.items()
        for line in conclusion(proposal)
    ]
    if not by_setting:
        lines = ["range test: " + line for line in conclusion(own)]
    return lines + ["range test: " + line for line in spread_lines(own)]


_NOISE_FROM = {
    "neighbours": "from nearest neighbours",
    "replicates": "from cycles of one configuration with several seeds",
    "surrogate": "as the surrogate has it from all cycles",
}
"""Where a noise of the search comes from, in words."""


_FEWEST_EXPLAINED = 60
"""Of 16 scores without noise PED-ANOVA named the wrong parameter first, of 60 the right one."""


def importance_text(result: StudyResult) -> str:
    """Return each parameter's share of the variance, and what share is a seed's noise.

    First of what the surrogate expects, which has no noise, then Optuna's of the single scores.
    """
    if result.importances is None:
        return f"importance: {result.no_importances}"
    text = (
        f"{result.explained_by}, {result.n_trials} configurations at "
        f"{count(result.epochs, 'epoch')} of which {_broken_text(result)}: "
        f"{_shares_text(result.importances)}"
    )
    if result.expected is None:
        text = f"importance ({text})"
    else:
        if result.n_trials < _FEWEST_EXPLAINED:
            text += " (which says little of so few)"
        effects = _shares_text(result.expected.effects)
        text = f"importance of what is expected over the range: {effects}; beside it {text}"
    if result.noise_floor is None or result.search_noise is None:
        return text
    deviation = result.metric.difference(result.search_noise.deviation)
    return (
        f"{text}; of that variance at most about {result.noise_floor:.0%} is a seed's noise (sd "
        f"{deviation}, {_NOISE_FROM[result.search_noise.source]})"
    )


def _shares_text(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in shares.items()) or (
        "nothing to explain"
    )


def near_best_text(result: StudyResult) -> str:
    """Return what the configurations span that are expected to be as good as the best."""
    assert result.expected is not None
    assert result.margin is not None
    spans = ", ".join(
        f"{name} {span_text(name, span, choices=name in (result.choices or ()))}"
        for name, span in result.expected.near_best.items()
    )
    return f"expected within {result.metric.difference(result.margin)} of the best: {spans}"


def noise_text(result: StudyResult) -> str:
    """Return the deviation of a score over seeds beside that over configurations."""
    return (
        f"noise of a seed: sd {result.metric.difference(result.noise.deviation)} (from the "
        f"confirmation's seeds, {result.noise.freedom} degrees of freedom); spread over the "
        f"configurations: sd {result.metric.difference(result.spread)}"
    )


def _broken_text(result: StudyResult) -> str:
    more = f", {result.n_unlearned} did not learn" if result.n_unlearned else ""
    return f"{result.n_diverged} diverged{more}"


def region_text(result: StudyResult) -> str:
    """Return the optimum as far as one seed each tells."""
    region = result.region
    return (
        f"within noise of the best: {len(region.slots)} of {region.n_cycles} configurations at "
        f"{count(result.epochs, 'epoch')}, n = 1 seed each: {region}"
    )


def cost_text(stages: Sequence[StageSpent], trained_on: str) -> str:
    """Return what each stage has cost; `trained_on`: images or samples."""
    return "; ".join(
        f"{s.name} {s.n_runs} runs, {s.n_images:,} {trained_on}, {duration_text(s.seconds)}"
        for s in stages
    )
