"""The rates of a plan are torch's, to the last digit, though no torch is loaded for them."""

import subprocess
import sys
from random import Random

import pytest
import torch

from trainers.onecycle import LAST_RATE_DIVISOR, OneCycle

CASES = [
    OneCycle(max_lr=0.4, total_steps=10),
    OneCycle(max_lr=0.4, total_steps=1000, pct_start=0.002, div_factor=2.0),
    OneCycle(max_lr=3e-4, total_steps=97, pct_start=0.6, div_factor=99.7),
    OneCycle(max_lr=1.7, total_steps=312, base_momentum=0.8, max_momentum=0.9),
]


def drawn(seed: int) -> OneCycle:
    random = Random(seed)
    return OneCycle(
        max_lr=10 ** random.uniform(-5, 1),
        total_steps=random.randrange(50, 900),
        pct_start=random.uniform(0.05, 0.6),
        div_factor=random.uniform(1.5, 120),
    )


def seen_by_an_optimizer(plan: OneCycle) -> tuple[list[float], list[float]]:
    """Return the rate and the momentum of each step under a real scheduler."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=plan.max_lr,
        total_steps=plan.total_steps,
        pct_start=plan.pct_start,
        div_factor=plan.div_factor,
        final_div_factor=LAST_RATE_DIVISOR / plan.div_factor,
        base_momentum=plan.base_momentum,
        max_momentum=plan.max_momentum,
    )
    lrs, momenta = [], []
    for step in range(plan.total_steps):
        lrs.append(optimizer.param_groups[0]["lr"])
        momenta.append(optimizer.param_groups[0]["momentum"])
        optimizer.step()
        if step + 1 < plan.total_steps:
            scheduler.step()
    return lrs, momenta


@pytest.mark.parametrize("plan", [*CASES, *map(drawn, range(40))], ids=str)
def test_each_rate_and_momentum_is_the_one_that_torch_applies(plan: OneCycle) -> None:
    lrs, momenta = seen_by_an_optimizer(plan)
    assert list(plan.lrs()) == lrs
    assert list(plan.momenta()) == momenta


def test_a_search_over_a_table_needs_no_torch(tmp_path: object) -> None:
    code = (
        "import sys\n"
        "from search import api\n"
        f"api.run('tests/table_study.py', storage='sqlite:///{tmp_path}/a.db', device='cpu')\n"
        "print(sorted({'torch', 'torchvision'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300
    )
    assert done.stdout.strip().splitlines()[-1:] == ["[]"], done.stderr
