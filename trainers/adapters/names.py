"""Whether a metric is better high or low, as far as its name says."""

import re

_LOW = """
    loss error err mse rmse mae mape nll perplexity ppl wer cer bce ce crossentropy ece
    brier fid eer hamming deviance
"""
_HIGH = """
    acc accuracy f1 fbeta auc auroc roc ap map auprc precision recall sensitivity
    specificity iou miou jaccard dice r2 bleu rouge rougel meteor mcc matthews kappa psnr
    ssim spearman pearson spearmanr pearsonr ndcg mrr correct reward
"""


def direction_of(name: str) -> str:
    """Return maximize or minimize for a metric's name: `val_acc`, `eval_loss`, `MulticlassF1`.

    Raises ValueError where the name does not say.
    """
    words = set(re.split(r"[^a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()))
    # acc1, top5: a number behind a word is not part of it, but F1 and R2 are words.
    words |= {word.rstrip("0123456789") for word in words}
    if set(_LOW.split()) & words:  # first: a dice_loss is a loss
        return "minimize"
    if set(_HIGH.split()) & words:
        return "maximize"
    raise ValueError(
        f"whether {name!r} is better high or low cannot be read from its name: say "
        'direction="maximize" or direction="minimize"'
    )


def checked_direction(given: str | None, name: str) -> str:
    """Return the direction that the user gave, else the one that the name says."""
    if given is None:
        return direction_of(name)
    if given not in ("maximize", "minimize"):
        raise ValueError(f"direction must be maximize or minimize, got {given!r}")
    return given
