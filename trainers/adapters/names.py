"""Whether a metric is better high or low, as far as its name says."""

import re
from typing import Literal, cast, get_args

Direction = Literal["maximize", "minimize"]

_LOW = """
    loss error err mse rmse mae mape nll perplexity ppl wer cer bce ce crossentropy ece
    brier fid eer hamming deviance
"""
_SHARES = """
    acc accuracy f1 fbeta auc auroc roc ap map auprc precision recall sensitivity specificity iou
    miou jaccard dice ndcg mrr correct
"""
_HIGH = f"""
    {_SHARES} r2 bleu rouge rougel meteor mcc matthews kappa psnr ssim spearman pearson spearmanr
    pearsonr reward
"""


def direction_of(name: str) -> Direction:
    """Return maximize or minimize for a metric's name: `val_acc`, `eval_loss`, `MulticlassF1`.

    Raises ValueError where the name does not say.
    """
    words = _words(name)
    if set(_LOW.split()) & words:  # first: a dice_loss is a loss
        return "minimize"
    if set(_HIGH.split()) & words:
        return "maximize"
    raise ValueError(
        f"whether {name!r} is better high or low cannot be read from its name: say "
        'direction="maximize" or direction="minimize"'
    )


def is_share(name: str) -> bool:
    """Whether a metric of this name lies between 0 and 1, with 0 as its worst."""
    return bool(set(_SHARES.split()) & _words(name)) and not set(_LOW.split()) & _words(name)


def _words(name: str) -> set[str]:
    words = set(re.split(r"[^a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()))
    # acc1, top5: a number behind a word is not part of it, but F1 and R2 are words.
    return words | {word.rstrip("0123456789") for word in words}


def checked_direction(given: str | None, name: str) -> Direction:
    """Return the direction that the user gave, else the one that the name says."""
    if given is None:
        return direction_of(name)
    for direction in get_args(Direction):
        if given == direction:
            return cast(Direction, direction)
    raise ValueError(f"direction must be maximize or minimize, got {given!r}")
