"""The nets of the families: a few thousand weights each, by the name under which they share."""

from collections.abc import Callable, Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainers.models import Residual


def _mlp(
    widths: tuple[int, ...], activation: type[nn.Module], *, norm: bool = False, dropout: float = 0
) -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten()]
    for n_in, n_out in pairwise(widths[:-1]):
        layers += [nn.Linear(n_in, n_out, bias=not norm)]
        layers += [nn.BatchNorm1d(n_out)] if norm else []
        layers += [activation()]
        layers += [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(*layers, nn.Linear(*widths[-2:]))


def mlp(*widths: int) -> nn.Module:
    """Return linear layers with ReLU between them, without any norm."""
    return _mlp(widths, nn.ReLU)


def mlp_tanh(*widths: int) -> nn.Module:
    """Return linear layers with tanh between them."""
    return _mlp(widths, nn.Tanh)


def mlp_dropout(*widths: int) -> nn.Module:
    """Return linear layers with ReLU and dropout."""
    return _mlp(widths, nn.ReLU, dropout=0.2)


def mlp_silu_bn(*widths: int) -> nn.Module:
    """Return linear layers with batch norm and SiLU."""
    return _mlp(widths, nn.SiLU, norm=True)


def mlp_bn(*widths: int) -> nn.Module:
    """Return halved images (B, 3, 8, 8) through linear layers with batch norm and ReLU."""
    return nn.Sequential(nn.AvgPool2d(2), _mlp(widths, nn.ReLU, norm=True))


def mlp_residual(n_in: int, width: int, n_out: int) -> nn.Module:
    """Return two residual blocks of layer norm and two linear layers, for tables.

    After Gorishniy et al., "Revisiting Deep Learning Models for Tabular Data" (2021).
    """
    blocks = [
        Residual(
            nn.Sequential(
                nn.LayerNorm(width),
                nn.Linear(width, width),
                nn.ReLU(),
                nn.Linear(width, width),
            )
        )
        for _ in range(2)
    ]
    return nn.Sequential(
        nn.Linear(n_in, width), *blocks, nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, n_out)
    )


def _convs(
    stride: int, channels: tuple[int, ...], norm: Callable[[int], list[nn.Module]]
) -> nn.Module:
    layers: list[nn.Module] = []
    for number, (n_in, n_out) in enumerate(pairwise(channels[:-1])):
        layers += [nn.Conv2d(n_in, n_out, 3, stride=2 if number else stride, padding=1)]
        layers += [*norm(n_out), nn.ReLU()]
    last = nn.Linear(*channels[-2:])
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), last)


def conv_bn(stride: int, *channels: int) -> nn.Module:
    """Return 3x3 convolutions with batch norm; all after the first have stride 2."""
    return _convs(stride, channels, lambda n: [nn.BatchNorm2d(n)])


def conv_gn(stride: int, *channels: int) -> nn.Module:
    """Return the same with group norm."""
    return _convs(stride, channels, lambda n: [nn.GroupNorm(4, n)])


def conv_plain(stride: int, *channels: int) -> nn.Module:
    """Return the same without any norm."""
    return _convs(stride, channels, lambda n: [])


class _Positions(nn.Module):
    """Adds a learned vector to each place of (B, T, C)."""

    def __init__(self, n: int, width: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(0.02 * torch.randn(n, width))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + self.vectors


class _Mean(nn.Module):
    """The mean over the places of (B, T, C)."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.mean(1)


class _Transposed(nn.Module):
    """Exchanges the last two dimensions."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.mT


class _OverPlaces(nn.Module):
    """Applies a module along the places of (B, T, C)."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, inputs: Tensor) -> Tensor:
        turned: Tensor = self.inner(inputs.mT).mT
        return turned


class _Attention(nn.Module):
    """Self-attention of (B, T, C) with 2 heads."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, inputs: Tensor) -> Tensor:
        b, t, c = inputs.shape
        q, k, v = self.qkv(inputs).view(b, t, 3, 2, c // 2).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(b, t, c))
        return out


def _thinking(width: int) -> nn.Module:
    layers = nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)
    return Residual(nn.Sequential(nn.LayerNorm(width), *layers))


def _attending(width: int) -> nn.Module:
    return Residual(nn.Sequential(nn.LayerNorm(width), _Attention(width)))


def _patches(channels: int, size: int, width: int) -> list[nn.Module]:
    """Return what makes images (B, channels, H, W) rows of patches (B, T, width)."""
    cut = nn.Conv2d(channels, width, size, stride=size)
    return [cut, nn.Flatten(2), _Transposed()]


def vit(channels: int, size: int, n_patches: int, width: int, n_classes: int) -> nn.Module:
    """Return a vision transformer of 2 blocks (Dosovitskiy et al., 2021), its mean as the head."""
    blocks = [m for _ in range(2) for m in (_attending(width), _thinking(width))]
    head = nn.LayerNorm(width), _Mean(), nn.Linear(width, n_classes)
    return nn.Sequential(
        *_patches(channels, size, width), _Positions(n_patches, width), *blocks, *head
    )


def mixer(channels: int, size: int, n_patches: int, width: int, n_classes: int) -> nn.Module:
    """Return an MLP-Mixer of 2 blocks (Tolstikhin et al., 2021)."""
    blocks: list[nn.Module] = []
    for _ in range(2):
        over_places = nn.Linear(n_patches, n_patches), nn.ReLU(), nn.Linear(n_patches, n_patches)
        turned = _OverPlaces(nn.Sequential(*over_places))
        blocks += [Residual(nn.Sequential(nn.LayerNorm(width), turned)), _thinking(width)]
    head = nn.LayerNorm(width), _Mean(), nn.Linear(width, n_classes)
    return nn.Sequential(*_patches(channels, size, width), *blocks, *head)


def transformer(n_tokens: int, length: int, width: int, n_classes: int) -> nn.Module:
    """Return one block of attention over embedded tokens (B, T)."""
    return nn.Sequential(
        nn.Embedding(n_tokens, width),
        _Positions(length, width),
        _attending(width),
        _thinking(width),
        nn.LayerNorm(width),
        _Mean(),
        nn.Linear(width, n_classes),
    )


class _Pairs(nn.Module):
    """The numbers of neighbouring pairs of characters, hashed into `n` (B, T - 1)."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n

    def forward(self, inputs: Tensor) -> Tensor:
        return (inputs[:, :-1] * 131 + inputs[:, 1:]) % self.n


def bag(n_pairs: int, width: int, n_classes: int) -> nn.Module:
    """Return the mean of the embedded pairs of characters, and a linear layer.

    After Joulin et al., "Bag of Tricks for Efficient Text Classification" (2016).
    """
    return nn.Sequential(
        _Pairs(n_pairs), nn.EmbeddingBag(n_pairs, width, mode="mean"), nn.Linear(width, n_classes)
    )


def text_conv(n_tokens: int, width: int, n_classes: int) -> nn.Module:
    """Return embedded characters, a convolution over them, and the greatest of each channel."""
    return nn.Sequential(
        nn.Embedding(n_tokens, width),
        _Transposed(),
        nn.Conv1d(width, 2 * width, 4, stride=2),
        nn.ReLU(),
        nn.AdaptiveMaxPool1d(1),
        nn.Flatten(),
        nn.Linear(2 * width, n_classes),
    )


def conv1d_bn(n_in: int, width: int, n_classes: int) -> nn.Module:
    """Return 1-D convolutions with batch norm over signals (B, n_in, T)."""
    layers: list[nn.Module] = []
    for channels in (n_in, width, width):
        layers += [nn.Conv1d(channels, width, 5, stride=2), nn.BatchNorm1d(width), nn.ReLU()]
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(width, n_classes)
    )


class _Outputs(nn.Module):
    """The output of a recurrent net after each step (B, T, C)."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.inner(inputs)[0]
        return outputs


def gru(n_tokens: int, width: int, n_classes: int) -> nn.Module:
    """Return a GRU over embedded tokens (B, T), and the mean of its outputs."""
    cells = _Outputs(nn.GRU(width, width, batch_first=True))
    return nn.Sequential(
        nn.Embedding(n_tokens, width), cells, _Mean(), nn.Linear(width, n_classes)
    )


def lstm(n_in: int, width: int, n_classes: int) -> nn.Module:
    """Return an LSTM over sequences (B, T, n_in), and the mean of its outputs."""
    cells = _Outputs(nn.LSTM(n_in, width, batch_first=True))
    return nn.Sequential(cells, _Mean(), nn.Linear(width, n_classes))


class Factors(nn.Module):
    """The rating of a user for a thing (B, 2): the product of two vectors, and two biases."""

    def __init__(self, n_users: int, n_things: int, width: int) -> None:
        super().__init__()
        self.users, self.things = nn.Embedding(n_users, width), nn.Embedding(n_things, width)
        self.user_bias, self.thing_bias = nn.Embedding(n_users, 1), nn.Embedding(n_things, 1)
        for table in (self.users, self.things, self.user_bias, self.thing_bias):
            nn.init.normal_(table.weight, std=0.1)

    def forward(self, pairs: Tensor) -> Tensor:
        user, thing = pairs[:, 0], pairs[:, 1]
        product = (self.users(user) * self.things(thing)).sum(1, keepdim=True)
        rating: Tensor = product + self.user_bias(user) + self.thing_bias(thing)
        return rating


_MAKERS = (
    *(mlp, mlp_tanh, mlp_dropout, mlp_silu_bn, mlp_bn, mlp_residual),
    *(conv_bn, conv_gn, conv_plain, vit, mixer, transformer),
    *(bag, text_conv, conv1d_bn, gru, lstm),
)
NETS: Mapping[str, Callable[..., nn.Module]] = {
    **{make.__name__: make for make in _MAKERS},
    "factors": Factors,
}
