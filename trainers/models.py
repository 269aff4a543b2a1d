"""The nets of the bundled studies; each factory returns a fresh, randomly initialised module."""

from torch import Tensor, nn


def _conv(channels_in: int, channels_out: int) -> nn.Sequential:
    """3x3 convolution, batch norm, ReLU; height and width stay."""
    return nn.Sequential(
        # No bias: batch norm subtracts it again.
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


def digits_net() -> nn.Module:
    """Return a net for 8x8 grey digits, (B, 1, 8, 8) to (B, 10): two convolutions."""
    return nn.Sequential(
        _conv(1, 16),
        nn.MaxPool2d(2),
        _conv(16, 32),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 10),
    )


# A cycle of `cifar-small`, 40,000 images, takes one Zen 4 core about 20 s in bf16.
def small_cnn() -> nn.Module:
    """Return a net for a CPU, (B, 3, 32, 32) to (B, 10): four convolutions, 165 k weights."""
    return nn.Sequential(
        _conv(3, 24),
        nn.MaxPool2d(2),
        _conv(24, 48),
        nn.MaxPool2d(2),
        _conv(48, 96),
        nn.MaxPool2d(2),
        _conv(96, 128),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(128, 10),
    )


class Residual(nn.Module):
    """x + f(x)."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """Return x + f(x), of the shape of x."""
        out: Tensor = x + self.body(x)
        return out


class Scale(nn.Module):
    """Multiply by a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Return factor * x."""
        return self.factor * x


def resnet9() -> nn.Module:
    """Return ResNet-9, (B, 3, 32, 32) to (B, 10): 6.6 M weights, 379 million multiply-adds.

    The net of David Page's "How to Train Your ResNet" (DAWNBench, 2018-2019).
    """

    def shrink(channels_in: int, channels_out: int) -> nn.Sequential:
        return nn.Sequential(_conv(channels_in, channels_out), nn.MaxPool2d(2))

    def residual(channels: int) -> nn.Module:
        return Residual(nn.Sequential(_conv(channels, channels), _conv(channels, channels)))

    return nn.Sequential(
        _conv(3, 64),
        shrink(64, 128),
        residual(128),
        shrink(128, 256),
        shrink(256, 512),
        residual(512),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(512, 10, bias=False),
        # Page's net scales its logits by 1/8, too.
        Scale(0.125),
    )
