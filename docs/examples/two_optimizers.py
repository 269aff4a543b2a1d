"""Two optimizers in one loop, a GAN: the plan drives the maker's, the critic keeps its rate."""

from torch import Generator, cat, optim, randn
from torch.nn import Linear, ReLU, Sequential, functional

from studies.definition import Space, Study
from trainers.training import Training


def optimizers(gan):
    maker = optim.Adam(gan[0].parameters(), maximize=True)
    critic = optim.SGD(gan[1].parameters(), lr=0.1)  # no state, which a checkpoint would not hold
    maker.register_step_post_hook(lambda *_: (critic.step(), critic.zero_grad()))
    return maker


# The score is the distance between sorted numbers made and as many sorted real ones.
real = randn(3, 1000, 1, generator=Generator().manual_seed(0)).exp().sort(1).values
task = Training(
    model=lambda: Sequential(*(Sequential(Linear(n, 32), ReLU(), Linear(32, 1)) for n in (4, 1))),
    optimizer=optimizers,
    data=dict(zip(("train", "validation", "test"), real, strict=True)),
    batch_size=50,
    loss=lambda gan, real: functional.softplus(cat([gan(randn(50, 4)), -gan[1](real)])).mean(),
    score=lambda gan, loader: (gan[0](randn(1000, 4)).sort(0)[0] - cat([*loader])).abs().mean(),
    metric="distance",
    direction="minimize",
)
STUDY = Study(name="gan", task=task, epochs=30, space=Space(max_lr=(1e-4, 0.1)))
