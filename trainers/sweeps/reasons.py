"""Why sweeps propose nothing, in words, and a way on for each reason."""

from collections.abc import Sequence

from trainers.sweeps.judgement import Ending, Judgement

OWN_RANGE = "Space(max_lr=(low, high))"


def no_bracket(judgements: Sequence[Judgement], *, start_lr: float, end_lr: float) -> str:
    """Return how the sweeps ended, of which most have no edge, and what to do about it."""
    endings = [judgement.ending for judgement in judgements]
    silent = [j for j in judgements if j.ending not in ("diverged", "rebounded")]
    counts = ", ".join(f"{endings.count(end)} {end}" for end in dict.fromkeys(endings))
    kinds = [judgement.ending for judgement in silent]
    worst = max(dict.fromkeys(kinds), key=kinds.count)
    lrs = [j.edge for j in silent if j.ending == worst and j.edge is not None]
    advice = _advice(worst, start_lr=start_lr, end_lr=end_lr, broken_lr=min(lrs, default=start_lr))
    return f"no bracket ({counts}): {advice}"


def _advice(ending: Ending, *, start_lr: float, end_lr: float, broken_lr: float) -> str:
    own = f"{OWN_RANGE} of a study says where to search"
    advice: dict[Ending, str] = {
        "reached end_lr": f"raise end_lr (now {end_lr:g}), up to which training breaks "
        f"nowhere; where the loss has no lower bound, as a critic's, {own}",
        "never descended": "no drop of the loss stands out of its noise: take larger batches, "
        f"or more sweeps or steps, such as n_sweeps=20, n_steps=400; or {own}",
        "constant loss": "the loss is the same at every rate: it must depend on parameters that "
        "the optimizer has, and these must require a gradient",
        "broke too early": f"a loss was not finite at {broken_lr:.3g}, before it had fallen: clip "
        "the gradients, leave fp16 for bf16 or fp32, or look for samples that are no numbers; "
        f"or {own}, below that rate",
        "broke at once": f"the first steps, at start_lr, make the loss no number: lower start_lr "
        f"(now {start_lr:g}), say to {start_lr / 1000:g}; where that does not "
        "help, the gradients are not finite: look for the root or the logarithm of 0, or for fp16",
        "no finite loss": "the loss is no number before the first step: check the data, the model "
        "and the precision; no learning rate helps",
        "no lower bound": f"no rate breaks a loss that falls without end, as a critic's: {own}",
    }
    return advice[ending]
