"""The range test leaves no trace: hashes of everything, before and after, and what comes next."""

import hashlib
import pickle
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from trainers.range_test import range_test
from trainers.sweeps.untouched import seed_everything, untouched

Loss = Callable[[nn.Module, tuple[Tensor, Tensor]], Tensor]

pytestmark = pytest.mark.usefixtures("own_generators")


class Net(nn.Module):
    """Dropout, BatchNorm, and a buffer that each forward pass replaces instead of changing."""

    seen: Tensor
    hidden: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(8, 16), nn.BatchNorm1d(16)
        self.frozen, self.drop, self.last = nn.BatchNorm1d(16), nn.Dropout(0.3), nn.Linear(16, 1)
        self.register_buffer("seen", torch.zeros(1))
        self.register_buffer("hidden", torch.zeros(2), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        self.seen = self.seen + len(x)
        self.hidden.add_(1)
        out: Tensor = self.last(self.drop(self.frozen(self.norm(self.first(x)).relu())))
        return out


def squared_error(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Draws from every generator, as augmentation would."""
    noise = random.random() + np.random.random()
    return (model(batch[0] + 0.01 * noise) - batch[1]).square().mean()


def data() -> TensorDataset:
    x = torch.randn(96, 8, generator=torch.Generator().manual_seed(3))
    return TensorDataset(x, x.sum(1, keepdim=True))


def sgd(model: nn.Module) -> Optimizer:
    biases = [p for p in model.parameters() if p.ndim < 2]
    weights = [p for p in model.parameters() if p.ndim >= 2]
    groups: list[dict[str, Any]] = [{"params": weights}, {"params": biases, "lr": 0.001}]
    return torch.optim.SGD(groups, lr=0.01, momentum=0.9, nesterov=True)


def adamw(model: nn.Module) -> Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=0.01, amsgrad=True)


def adam_of_a_tensor_rate(model: nn.Module) -> Optimizer:
    return torch.optim.Adam(model.parameters(), lr=torch.tensor(0.01))


OPTIMIZERS = pytest.mark.parametrize("build", [sgd, adamw, adam_of_a_tensor_rate])


def train(model: nn.Module, optimizer: Optimizer, loader: DataLoader[Any], loss: Loss) -> None:
    for batch in loader:
        optimizer.zero_grad()
        loss(model, batch).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def halfway(build: Callable[[nn.Module], Optimizer]) -> tuple[Net, Optimizer]:
    """A net and an optimizer in the middle of their training, one part of the net frozen."""
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    model = Net()
    optimizer = build(model)
    model.frozen.eval()
    train(model, optimizer, DataLoader(data(), batch_size=16), squared_error)
    return model, optimizer


def digest(value: object) -> str:
    if isinstance(value, Tensor):
        content = value.detach().numpy().tobytes()
        value = (str(value.dtype), tuple(value.shape), value.requires_grad, content)
    elif isinstance(value, dict):
        value = [(str(key), digest(part)) for key, part in value.items()]
    elif isinstance(value, (list, tuple)):
        value = [digest(part) for part in value]
    return hashlib.sha256(pickle.dumps(value)).hexdigest()


def hashes(model: nn.Module, optimizer: Optimizer, loader: DataLoader[Any]) -> dict[str, str]:
    """Of everything that could show a trace, by name."""
    sampler = loader.sampler
    own = [o.generator for o in (loader, sampler) if getattr(o, "generator", None)]
    groups, attributes = optimizer.param_groups, vars(optimizer)
    state = {
        "parameters": dict(model.named_parameters()),
        "buffers": dict(model.named_buffers()),
        "gradients": {name: p.grad for name, p in model.named_parameters()},
        "modes": {name: module.training for name, module in model.named_modules()},
        "optimizer state": optimizer.state_dict()["state"],
        "param groups": [{k: v for k, v in g.items() if k != "params"} for g in groups],
        "optimizer attributes": sorted(attributes),
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=True),
        "torch": torch.get_rng_state(),
        "own generators": [generator.get_state() for generator in own],
    }
    return {name: digest(part) for name, part in state.items()}


def objects(model: nn.Module, optimizer: Optimizer) -> list[int]:
    tensors = [*model.parameters(), *model.buffers(), *(p.grad for p in model.parameters())]
    groups = [*optimizer.param_groups, *(group["lr"] for group in optimizer.param_groups)]
    states = [tensor for state in optimizer.state.values() for tensor in state.values()]
    return [id(thing) for thing in (*tensors, *groups, *states, optimizer.state)]


def shuffled(generator: torch.Generator | None = None) -> DataLoader[Any]:
    return DataLoader(data(), batch_size=16, shuffle=True, generator=generator)


@OPTIMIZERS
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "end_lr", [1.0, 1e9]
)  # the second one ends in weights that are no numbers
def test_everything_is_bit_identical_before_and_after(
    build: Callable[[nn.Module], Optimizer], training: bool, end_lr: float
) -> None:
    model, optimizer = halfway(build)
    if not training:
        model.eval()
    loader = shuffled(torch.Generator().manual_seed(5))
    before, same = hashes(model, optimizer, loader), objects(model, optimizer)
    said = range_test(
        model, optimizer, loader, squared_error, end_lr=end_lr, n_steps=50, n_sweeps=2
    )
    assert hashes(model, optimizer, loader) == before
    assert objects(model, optimizer) == same
    assert said.n_steps > 25


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@OPTIMIZERS
def test_everything_is_put_back_when_the_loss_raises_in_step_7(
    build: Callable[[nn.Module], Optimizer], error: type[BaseException]
) -> None:
    model, optimizer = halfway(build)
    loader, n_calls = shuffled(), 0
    before = hashes(model, optimizer, loader)

    def breaks(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 7:
            raise error("seven")
        return squared_error(model, batch)

    with pytest.raises(error, match="seven"):
        range_test(model, optimizer, loader, breaks, start_lr=0.1)
    assert n_calls == 7
    assert hashes(model, optimizer, loader) == before


@pytest.mark.parametrize(
    "part", ["parameters", "gradients", "modes", "buffers", "optimizer state"]
)
def test_the_hashes_would_show_a_trace(part: str) -> None:
    model, optimizer = halfway(sgd)
    before = hashes(model, optimizer, shuffled())
    if part == "parameters":
        model.first.weight.data[0, 0] += 1e-7
    if part == "gradients":
        optimizer.zero_grad()
    if part == "modes":
        model.frozen.train()
    if part == "buffers":
        model.hidden.add_(1)
    if part == "optimizer state":
        optimizer.state[model.first.weight]["momentum_buffer"].mul_(2)
    after = hashes(model, optimizer, shuffled())
    assert [name for name in before if before[name] != after[name]] == [part]


@pytest.mark.parametrize("own", ["none", "loader's", "sampler's"])
@OPTIMIZERS
def test_the_training_that_follows_is_the_one_it_would_have_been(
    build: Callable[[nn.Module], Optimizer], own: str
) -> None:
    ends = []
    for tested in (False, True):
        model, optimizer = halfway(build)
        generator = None if own == "none" else torch.Generator().manual_seed(5)
        loader = shuffled(generator)
        if own == "sampler's":
            sampler = RandomSampler(data(), generator=generator)
            loader = DataLoader(data(), batch_size=16, sampler=sampler)
        if tested:
            range_test(model, optimizer, loader, squared_error, n_sweeps=2, n_steps=50)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=20)
        train(model, optimizer, loader, squared_error)
        scheduler.step()
        train(model, optimizer, loader, squared_error)
        ends.append(hashes(model, optimizer, loader))
    assert ends[0] == ends[1]


def test_the_next_epoch_has_the_order_that_it_would_have_had() -> None:
    def next_epoch(*, tested: bool) -> list[list[float]]:
        model, optimizer = halfway(sgd)
        loader = shuffled()
        if tested:
            range_test(model, optimizer, loader, squared_error, n_sweeps=2, n_steps=50)
        return [batch[1][:, 0].tolist() for batch in loader]

    assert next_epoch(tested=True) == next_epoch(tested=False)


def test_what_a_step_changes_within_a_param_group_is_put_back() -> None:
    model, optimizer = halfway(sgd)
    n_steps = optimizer.param_groups[0]["n_steps"] = torch.zeros(1)
    optimizer.register_step_post_hook(lambda o, *_: o.param_groups[0]["n_steps"].add_(1))
    with untouched(model, optimizer, []):
        train(model, optimizer, shuffled(), squared_error)
        assert optimizer.param_groups[0]["n_steps"] == 6
    assert optimizer.param_groups[0]["n_steps"] is n_steps
    assert n_steps == 0


def test_gradients_of_parameters_that_are_not_optimized_are_put_back() -> None:
    model, _ = halfway(sgd)
    optimizer = torch.optim.SGD(model.last.parameters(), lr=0.1)
    before = hashes(model, optimizer, shuffled())
    range_test(model, optimizer, shuffled(), squared_error, n_sweeps=1, n_steps=50)
    assert hashes(model, optimizer, shuffled()) == before


@pytest.mark.parametrize("kind", ["single", "batch sampler", "sampler of a batch sampler"])
def test_a_generator_is_found_wherever_a_loader_has_it(kind: str) -> None:
    generator = torch.Generator().manual_seed(5)
    sampler = RandomSampler(data(), generator=generator)
    loader: DataLoader[Any] = DataLoader(data(), batch_size=None, sampler=sampler)
    if kind != "single":
        batches = BatchSampler(sampler, batch_size=16, drop_last=False)
        loader = DataLoader(data(), batch_sampler=batches)
    if kind == "batch sampler":
        batches.generator, sampler.generator = generator, None
    before = generator.get_state()
    with untouched(*halfway(sgd), loader):
        seed_everything(1, loader)
        assert generator.initial_seed() == 1
    assert torch.equal(generator.get_state(), before)


def test_a_loader_with_persistent_workers_keeps_them_or_has_none() -> None:
    generator = torch.Generator().manual_seed(5)
    loader = DataLoader(
        data(),
        batch_size=48,
        shuffle=True,
        generator=generator,
        num_workers=1,
        persistent_workers=True,
        multiprocessing_context="fork",
    )
    model, optimizer = halfway(sgd)
    before = generator.get_state()
    with untouched(model, optimizer, loader):
        assert len(list(loader)) == 2
    assert loader._iterator is None
    assert torch.equal(generator.get_state(), before)
    epoch = iter(loader)
    first = next(epoch)[0]
    with untouched(model, optimizer, loader):
        assert len(list(loader)) == 2
    assert loader._iterator is epoch
    assert (first.sum() + next(epoch)[0].sum()).item() == pytest.approx(data()[:][0].sum().item())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_generator_of_a_gpu_is_put_back_too() -> None:
    model, x = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5)).cuda(), data()[:][0]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    before = torch.cuda.get_rng_state()
    weights = digest([p.cpu() for p in model.parameters()])
    range_test(model, optimizer, [x], lambda model, x: model(x).square().mean(), n_sweeps=2)
    assert torch.equal(torch.cuda.get_rng_state(), before)
    assert digest([p.cpu() for p in model.parameters()]) == weights
    torch.rand(1, device="cuda")
    assert not torch.equal(torch.cuda.get_rng_state(), before)
