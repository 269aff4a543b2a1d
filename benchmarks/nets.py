"""Nets that only the benchmarks train."""

from torch import nn

from trainers.models import Residual


def _norm(channels: int) -> list[nn.Module]:
    return [nn.GroupNorm(8, channels), nn.ReLU()]


def _block(channels: int) -> nn.Module:
    """Group norm, ReLU, 3x3 convolution, added to the input."""
    conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    return Residual(nn.Sequential(*_norm(channels), conv))


def patch_residual() -> nn.Module:
    """Return a pre-activation residual net, (B, 3, 32, 32) to (B, 10), without batch norm.

    149 k weights, 3.5 million multiply-adds, less than half of those of `small_cnn`: 4x4 patches
    leave 8x8 positions. Group norm after He et al., "Identity Mappings" (2016), and Wu and He,
    "Group Normalization" (2018).
    """
    return nn.Sequential(
        nn.Conv2d(3, 48, 4, stride=4),
        _block(48),
        nn.Conv2d(48, 96, 3, stride=2, padding=1, bias=False),
        _block(96),
        *_norm(96),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(96, 10),
    )


def small_cnn_without_norm() -> nn.Module:
    """Return `trainers.models.small_cnn` without batch norm, its convolutions with a bias."""

    def conv(channels_in: int, channels_out: int) -> list[nn.Module]:
        return [nn.Conv2d(channels_in, channels_out, 3, padding=1), nn.ReLU(inplace=True)]

    return nn.Sequential(
        *conv(3, 24),
        nn.MaxPool2d(2),
        *conv(24, 48),
        nn.MaxPool2d(2),
        *conv(48, 96),
        nn.MaxPool2d(2),
        *conv(96, 128),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(128, 10),
    )
