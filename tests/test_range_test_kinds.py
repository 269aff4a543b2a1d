"""The range test on anybody's objects: they are bit for bit what they were, or are refused."""

import random
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, TensorDataset

from tests.test_untouched import digest
from trainers.errors import DataError, ScheduleError, TaskError, UserError
from trainers.range_test import RangeTestResult, range_test

Batch = Any

pytestmark = pytest.mark.usefixtures("own_generators")


def data(n: int = 64) -> TensorDataset:
    x = torch.randn(n, 8, generator=torch.Generator().manual_seed(3))
    return TensorDataset(x, x.sum(1, keepdim=True))


def net() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Dropout(0.2), nn.Linear(6, 1))


def squared_error(model: nn.Module, batch: Batch) -> Tensor:
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def swept(
    model: nn.Module,
    optimizer: Any,
    loader: Any = None,
    loss_fn: Callable[..., Any] = squared_error,
    **settings: Any,
) -> RangeTestResult:
    loader = DataLoader(data(), batch_size=16, shuffle=True) if loader is None else loader
    short: dict[str, Any] = {"n_steps": 50, "n_sweeps": 1, "end_lr": 1.0}
    return range_test(model, optimizer, loader, loss_fn, **short | settings)


def train(model: nn.Module, optimizer: Any, n: int = 3, loss_fn: Any = squared_error) -> None:
    for _ in range(n):
        optimizer.zero_grad()
        loss_fn(model, data()[:16]).backward()
        optimizer.step()


def fingerprint(model: nn.Module, *optimizers: Any) -> dict[str, str]:
    """Hashes of model, optimizers and generators, by name."""
    parts: dict[str, Any] = {
        "parameters": dict(model.named_parameters()),
        "gradients": {name: p.grad for name, p in model.named_parameters()},
        "buffers": dict(model.named_buffers()),
        "modes": {name: module.training for name, module in model.named_modules()},
        "generators": [random.getstate(), np.random.get_state(), torch.get_rng_state()],
    }
    for number, one in enumerate(optimizers):
        groups = [{k: v for k, v in group.items() if k != "params"} for group in one.param_groups]
        states = [one.state[p] for group in one.param_groups for p in group["params"]]
        names = sorted(vars(one))
        parts |= {f"state {number}": states, f"groups {number}": groups, f"names {number}": names}
    return {name: digest(part) for name, part in parts.items()}


# optimizers

optim = torch.optim
OPTIMIZERS: dict[str, Callable[[list[Any]], Optimizer]] = {
    "SGD": lambda p: optim.SGD(p, lr=0.01),
    "SGD momentum": lambda p: optim.SGD(p, lr=0.01, momentum=0.9, weight_decay=0.1),
    "SGD fused": lambda p: optim.SGD(p, lr=0.01, momentum=0.9, fused=True),
    "SGD foreach": lambda p: optim.SGD(p, lr=0.01, momentum=0.9, foreach=True),
    "SGD of a tensor": lambda p: optim.SGD(p, lr=torch.tensor(0.01), momentum=0.9),
    "Adam": lambda p: optim.Adam(p, lr=0.01, amsgrad=True),
    "Adam foreach": lambda p: optim.Adam(p, lr=0.01, foreach=True),
    "Adam fused": lambda p: optim.Adam(p, lr=0.01, fused=True),
    "AdamW": lambda p: optim.AdamW(p, lr=0.01),
    "AdamW of a tensor": lambda p: optim.AdamW(p, lr=torch.tensor(0.01)),
    "Adamax": lambda p: optim.Adamax(p, lr=0.01),
    "NAdam": lambda p: optim.NAdam(p, lr=0.01),
    "RAdam": lambda p: optim.RAdam(p, lr=0.01),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.01),
    "RMSprop momentum": lambda p: optim.RMSprop(p, lr=0.01, momentum=0.9, centered=True),
    "RMSprop foreach": lambda p: optim.RMSprop(p, lr=0.01, foreach=True),
    "Adagrad": lambda p: optim.Adagrad(p, lr=0.01),
    "Adagrad fused": lambda p: optim.Adagrad(p, lr=0.01, fused=True),
    "Adadelta": lambda p: optim.Adadelta(p, lr=0.01),
    "ASGD": lambda p: optim.ASGD(p, lr=0.01),
    "Adafactor": lambda p: optim.Adafactor(p, lr=0.01),
}
FRESH_OR_STEPPED = pytest.mark.parametrize("n_before", [0, 3])


@FRESH_OR_STEPPED
@pytest.mark.parametrize("several_groups", [False, True])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_every_optimizer_of_torch_is_what_it_was(
    kind: str, several_groups: bool, n_before: int
) -> None:
    model = net()
    groups: list[Any] = list(model.parameters())
    if several_groups:
        weights, biases = groups[::2], groups[1::2]
        rate = torch.tensor(0.001) if kind.endswith("of a tensor") else 0.001
        groups = [{"params": weights}, {"params": biases, "lr": rate, "own": [1, {"a": 2}]}]
    optimizer = OPTIMIZERS[kind](groups)
    train(model, optimizer, n_before)
    before = fingerprint(model, optimizer)
    result = swept(model, optimizer)
    assert fingerprint(model, optimizer) == before
    assert result.n_steps > 10


def test_every_optimizer_of_this_torch_is_tried_or_refused() -> None:
    kinds = {
        name
        for name, kind in vars(optim).items()
        if isinstance(kind, type) and issubclass(kind, Optimizer) and kind is not Optimizer
    }
    elsewhere = {"LBFGS", "Rprop", "SparseAdam", "Muon"}
    assert kinds <= {name.split()[0] for name in OPTIMIZERS} | elsewhere


@FRESH_OR_STEPPED
def test_an_optimizer_of_sparse_gradients_is_what_it_was(n_before: int) -> None:
    def loss_fn(model: nn.Module, batch: Batch) -> Tensor:
        return model(torch.tensor([0, 1, 1, 3])).square().mean()  # type: ignore[no-any-return]

    model = nn.Embedding(5, 4, sparse=True)
    optimizer = optim.SparseAdam(list(model.parameters()), lr=0.01)
    train(model, optimizer, n_before, loss_fn)
    optimizer.zero_grad()  # NumPy has no form for a sparse gradient
    before = fingerprint(model, optimizer)
    result = swept(model, optimizer, loss_fn=loss_fn)
    assert fingerprint(model, optimizer) == before
    norms = [point.grad_norm for point in result.points[0]]
    assert all(norm is not None and norm > 0 for norm in norms)


@pytest.mark.skipif(not hasattr(optim, "Muon"), reason="this torch has no Muon")
@FRESH_OR_STEPPED
def test_muon_is_what_it_was(n_before: int) -> None:
    model = nn.Sequential(nn.Linear(8, 6, bias=False), nn.Tanh(), nn.Linear(6, 1, bias=False))
    optimizer = optim.Muon(model.parameters(), lr=0.01)
    train(model, optimizer, n_before)
    before = fingerprint(model, optimizer)
    swept(model, optimizer)
    assert fingerprint(model, optimizer) == before


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (lambda p: optim.LBFGS(p), TaskError, "the step of LBFGS needs a closure"),
        (lambda p: optim.Rprop(p), ScheduleError, "Rprop takes its rate at the first step only"),
    ],
)
def test_an_optimizer_that_cannot_be_swept_is_refused(
    build: Any, error: type[UserError], words: str
) -> None:
    model = net()
    optimizer = build(model.parameters())
    before = fingerprint(model, optimizer)
    with pytest.raises(error, match=words):
        swept(model, optimizer)
    assert fingerprint(model, optimizer) == before


# optimizers that wrap another one


class Lookahead(Optimizer):
    """Slow weights in a list of its own; Optimizer.__init__ is left out, as often."""

    def __init__(self, optimizer: Optimizer, every: int = 2) -> None:
        self.optimizer, self.every, self.n_steps = optimizer, every, 0
        self.param_groups, self.defaults = optimizer.param_groups, optimizer.defaults
        self.state = optimizer.state
        self.slow = [p.detach().clone() for g in self.param_groups for p in g["params"]]

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.optimizer.zero_grad()

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.optimizer.step()
        self.n_steps += 1
        if self.n_steps % self.every == 0:
            weights = [p for group in self.param_groups for p in group["params"]]
            for weight, slow in zip(weights, self.slow, strict=True):
                slow += 0.5 * (weight.detach() - slow)
                weight.data = slow.clone()  # another tensor, as many do it


class Average:
    """What a wrapper may keep in an object of its own."""

    __slots__ = ("model", "n")

    def __init__(self, model: nn.Module) -> None:
        self.model, self.n = model, 0


class Averaging(Optimizer):
    """A wrapper with an average of the weights, in an object with slots."""

    def __init__(self, optimizer: Optimizer, model: nn.Module) -> None:
        self.inner, self.average = optimizer, Average(net())
        self.trained = model
        super().__init__(optimizer.param_groups, optimizer.defaults)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.inner.step()
        self.average.n += 1
        pairs = zip(self.average.model.parameters(), self.trained.parameters(), strict=True)
        for mean, weight in pairs:
            mean.data.lerp_(weight.data, 0.1)


class Several(Optimizer):
    """Steps several optimizers, one for each kind of weights, held in a dict."""

    def __init__(self, optimizers: dict[str, Optimizer]) -> None:
        self.optimizers, self.defaults = optimizers, {}
        self.param_groups = [g for one in optimizers.values() for g in one.param_groups]
        self.state = optimizers["inner"].state

    def zero_grad(self, set_to_none: bool = True) -> None:
        for one in self.optimizers.values():
            one.zero_grad()

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for one in self.optimizers.values():
            one.step()


def accelerated(model: nn.Module, optimizer: Optimizer) -> Any:
    return pytest.importorskip("accelerate").Accelerator(cpu=True).prepare(optimizer)


WRAPPERS: dict[str, Callable[[nn.Module, Optimizer], Any]] = {
    "accelerate": accelerated,
    "Lookahead": lambda model, optimizer: Lookahead(optimizer),
    "Averaging": lambda model, optimizer: Averaging(optimizer, model),
    "several": lambda model, optimizer: Several({"inner": optimizer}),
    "two": lambda model, optimizer: Lookahead(accelerated(model, optimizer)),
}


@FRESH_OR_STEPPED
@pytest.mark.parametrize("kind", ["SGD momentum", "AdamW", "RMSprop"])
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_an_optimizer_that_wraps_another_one_is_restored_with_it(
    wrapper: str, kind: str, n_before: int
) -> None:
    model = net()
    inner = OPTIMIZERS[kind](list(model.parameters()))
    outer = WRAPPERS[wrapper](model, inner)
    train(model, outer, n_before)
    places = [p.data_ptr() for p in model.parameters()]

    def all_of_it() -> dict[str, str]:
        own = {"slow": getattr(outer, "slow", None), "n": getattr(outer, "n_steps", None)}
        if isinstance(outer, Averaging):
            own |= {"n": outer.average.n, "mean": dict(outer.average.model.named_parameters())}
        return fingerprint(model, inner, outer) | {"own": digest(own)}

    before = all_of_it()
    swept(model, outer)
    assert all_of_it() == before
    assert [p.data_ptr() for p in model.parameters()] == places


def test_a_wrapper_that_is_no_optimizer_is_refused_by_the_one_to_take() -> None:
    class Duck:
        def __init__(self, inner: Optimizer) -> None:
            self.inner, self.param_groups = inner, inner.param_groups

    model = net()
    with pytest.raises(TaskError, match=r"got Duck: give the one inside, optimizer\.inner$"):
        swept(model, Duck(optim.SGD(model.parameters(), lr=0.1)))


def test_a_scheduler_of_the_optimizer_inside_is_noticed() -> None:
    model = net()
    inner = optim.SGD(model.parameters(), lr=0.1)
    outer = Lookahead(inner)
    optim.lr_scheduler.ConstantLR(inner)
    with pytest.raises(ScheduleError, match="has a learning-rate scheduler"):
        swept(model, outer)


def test_a_scheduler_of_one_of_several_optimizers_is_noticed() -> None:
    model = net()
    inner = optim.SGD(model.parameters(), lr=0.1)
    outer = Several({"inner": inner})
    optim.lr_scheduler.ConstantLR(inner)
    del inner.param_groups[0]["initial_lr"]
    with pytest.raises(ScheduleError, match="has a learning-rate scheduler"):
        swept(model, outer)


def test_a_wrapper_with_a_scaler_is_refused() -> None:
    model = net()
    outer = Lookahead(optim.SGD(model.parameters(), lr=0.1))
    outer.scaler = torch.amp.GradScaler("cpu")  # type: ignore[attr-defined]
    with pytest.raises(TaskError, match="Lookahead has a GradScaler"):
        swept(model, outer)


# models


class Shared(nn.Module):
    """One weight used twice, and plain attributes that a forward pass changes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.second = nn.Linear(8, 8)
        self.second.weight = self.first.weight
        self.last = nn.Linear(8, 1)
        self.n_calls, self.seen = 0, [torch.zeros(8)]

    def forward(self, x: Tensor) -> Tensor:
        self.n_calls += 1
        self.seen[0] += x.detach().mean(0)
        self.seen.append(x.detach()[0])
        out: Tensor = self.last(self.second(self.first(x)).tanh())
        return out


class Wrapped(nn.Module):
    """As DataParallel wraps a model."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "plain": net,
    "shared": Shared,
    "wrapped": lambda: Wrapped(net()),
    "DataParallel": lambda: nn.DataParallel(net()),
    "spectral": lambda: nn.Sequential(
        nn.utils.parametrizations.spectral_norm(nn.Linear(8, 4)), nn.Linear(4, 1)
    ),
    "compiled": lambda: torch.compile(net(), backend="eager"),  # type: ignore[dict-item]
}


@pytest.mark.parametrize("kind", MODELS)
def test_every_kind_of_model_is_what_it_was(kind: str) -> None:
    model = MODELS[kind]()
    optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    train(model, optimizer)
    own = (getattr(model, "n_calls", None), digest(getattr(model, "seen", None)))
    before = fingerprint(model, optimizer)
    swept(model, optimizer)
    assert fingerprint(model, optimizer) == before
    assert (getattr(model, "n_calls", None), digest(getattr(model, "seen", None))) == own


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 1))


def frozen() -> nn.Module:
    return net().requires_grad_(False)


@pytest.mark.filterwarnings("ignore:Lazy modules")
@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lazy, r"lazy parameters without a shape yet \(0\.weight\): run one batch"),
        (frozen, "the model is frozen: none of the optimizer's 6 parameters requires a gradient"),
        (lambda: net().to("meta"), "on the device meta, without values"),
    ],
)
def test_a_model_that_cannot_be_trained_is_refused(build: Any, words: str) -> None:
    model = build()
    with pytest.raises(TaskError, match=words):
        swept(model, optim.SGD(model.parameters(), lr=0.1))


def test_a_model_that_is_a_function_is_refused() -> None:
    model = net()
    with pytest.raises(TaskError, match=r"model must be a torch\.nn\.Module, got function"):
        swept(lambda x: model(x), optim.SGD(model.parameters(), lr=0.1))  # type: ignore[arg-type]


# loaders


class Numbered(IterableDataset[Any]):
    """Counts its samples and draws from generators of its own."""

    def __init__(self) -> None:
        self.n, self.python, self.numpy = 0, random.Random(1), np.random.default_rng(1)
        self.torch = torch.Generator().manual_seed(1)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(64):
            self.n += 1
            noise = self.python.random() + self.numpy.random()
            x = torch.randn(8, generator=self.torch) + 0.1 * noise
            yield x, x.sum()[None]

    def state(self) -> tuple[Any, ...]:
        numpy = self.numpy.bit_generator.state
        return self.n, self.python.getstate(), digest(numpy), digest(self.torch.get_state())


class Turning(Sampler[int]):
    """Shuffles a list of its own in place, and counts its epochs."""

    def __init__(self, n: int) -> None:
        self.order, self.epoch, self.python = list(range(n)), 0, random.Random(1)

    def __iter__(self) -> Iterator[int]:
        self.epoch += 1
        self.python.shuffle(self.order)
        yield from self.order

    def state(self) -> tuple[Any, ...]:
        return self.epoch, tuple(self.order), self.python.getstate()


class Own:
    """A loader that is none of torch's."""

    def __init__(self) -> None:
        self.position, self.order = 0, np.arange(64)

    def __iter__(self) -> Iterator[Any]:
        np.random.shuffle(self.order)
        x, y = data()[:]
        for begin in range(0, 64, 16):
            self.position += 16
            yield x[self.order[begin : begin + 16]], y[self.order[begin : begin + 16]]

    def state(self) -> tuple[Any, ...]:
        return self.position, self.order.tolist()


@pytest.mark.parametrize("kind", ["iterable", "sampler", "long sampler", "own"])
def test_what_a_loader_counts_and_draws_is_what_it_was(kind: str) -> None:
    n = 3_000 if kind == "long sampler" else 64
    keeper: Any = {"iterable": Numbered, "own": Own}.get(kind, lambda: Turning(n))()
    loader: Any = keeper
    if kind == "iterable":
        loader = DataLoader(keeper, batch_size=16)
    if "sampler" in kind:
        loader = DataLoader(data(n), batch_size=16, sampler=keeper)
    model = net()
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    next(iter(loader))
    before = keeper.state(), fingerprint(model, optimizer)
    swept(model, optimizer, loader)
    assert (keeper.state(), fingerprint(model, optimizer)) == before


def test_what_accelerate_prepared_is_what_it_was() -> None:
    accelerator = pytest.importorskip("accelerate").Accelerator(cpu=True)
    model = net()
    inner = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    loader: Any = DataLoader(data(), batch_size=16, shuffle=True)
    prepared, outer, loader = accelerator.prepare(model, inner, loader)
    train(prepared, outer)
    state = accelerator.gradient_state
    before = fingerprint(model, inner, outer)
    kept = loader.iteration, state.sync_gradients, state.active_dataloader
    swept(prepared, outer, loader)
    assert fingerprint(model, inner, outer) == before
    assert (loader.iteration, state.sync_gradients, state.active_dataloader) == kept


class Named(Dataset[Any]):
    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        x, y = data()[index]
        return {"x": x, "y": y}


def test_batches_that_are_dicts_are_swept_and_not_changed() -> None:
    def loss_fn(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        batch["x"] += 0.1  # as augmentation in place does
        return nn.functional.mse_loss(model(batch["x"]), batch["y"])

    model = net()
    batches = list(DataLoader(Named(), batch_size=16))
    before = digest(batches)
    swept(model, optim.SGD(model.parameters(), lr=0.01), batches, loss_fn)
    assert digest(batches) == before


class Once(IterableDataset[Any]):
    def __init__(self) -> None:
        self.source = (data()[number] for number in count())

    def __iter__(self) -> Iterator[Any]:
        return self.source


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: DataLoader(Once(), batch_size=4), r"Once\.source is a generator, which can be"),
        (list, "the loader gives no batch"),
        (lambda: DataLoader(data(4), batch_size=8, drop_last=True), "the loader gives no batch"),
        (lambda: 3, "must be a DataLoader or a list of batches, got int"),
    ],
)
def test_a_loader_that_cannot_be_read_for_each_sweep_is_refused(build: Any, words: str) -> None:
    model = net()
    optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    train(model, optimizer)
    before = fingerprint(model, optimizer)
    with pytest.raises(DataError, match=words):
        swept(model, optimizer, build())
    assert fingerprint(model, optimizer) == before


# losses


def mean_of(model: nn.Module, batch: Batch) -> Tensor:
    return squared_error(model, batch)


LOSSES: dict[str, tuple[Any, str]] = {
    "tuple": (lambda m, b: (mean_of(m, b), 1), "got tuple: return the loss alone"),
    "dict": (lambda m, b: {"loss": mean_of(m, b)}, r"got dict: return one of its .* \('loss'\)"),
    "float": (lambda m, b: mean_of(m, b).item(), "got float: return the tensor itself"),
    "array": (lambda m, b: mean_of(m, b).detach().numpy(), "got ndarray: return the tensor"),
    "vector": (lambda m, b: m(b[0])[:, 0], r"got shape \(16,\): take its mean\(\)"),
    "none": (lambda m, b: None, "got NoneType: it returns nothing; write return"),
    "detached": (lambda m, b: mean_of(m, b).detach(), r"got shape \(\): it has no gradient"),
    "criterion": (nn.CrossEntropyLoss(), "got CrossEntropyLoss; write lambda model, batch"),
    "function": (nn.functional.mse_loss, "got mse_loss; write lambda model, batch"),
    "of one": (lambda batch: batch, r"got one that takes \(batch\); write lambda model, batch"),
    "of three": (lambda model, x, y: x, r"got one that takes \(model, x, y\); write lambda"),
    "of outputs": (lambda out, y: (out - y).mean(), r"raised TypeError: .*a list of 2 \(Tensor"),
    "of a dict": (lambda m, b: m(b["x"]).mean(), r"raised TypeError: .*criterion\(model\(batch"),
    "text": ("mse", "got str"),
}


@pytest.mark.parametrize("kind", LOSSES)
def test_a_loss_of_another_form_is_refused_in_a_line_that_says_what_to_do(kind: str) -> None:
    loss_fn, words = LOSSES[kind]
    model = net()
    optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    train(model, optimizer)
    before = fingerprint(model, optimizer)
    with pytest.raises(TaskError, match=words) as refused:
        swept(model, optimizer, loss_fn=loss_fn)
    assert "\n" not in str(refused.value)
    assert fingerprint(model, optimizer) == before
