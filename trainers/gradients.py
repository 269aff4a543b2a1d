"""The size of a gradient."""

from collections.abc import Iterable

import torch
from torch import Tensor


def gradient_norm(parameters: Iterable[Tensor]) -> Tensor:
    """Return the 2-norm over all gradients there are, shape (), on their device; nothing is read.

    torch.nn.utils.get_total_norm, as clip_grad_norm_ computes it.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    # torch has no norm of several sparse ones (of an embedding); doubled indices are summed first
    gradients = [g.coalesce().values() if g.is_sparse else g for g in gradients]
    return torch.nn.utils.get_total_norm(gradients)
