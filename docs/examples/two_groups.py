"""Two param groups at rates 1 : 10: a body that knows the digits 0 to 4, a new head for 5 to 9."""

from copy import deepcopy

from sklearn.datasets import load_digits
from torch import manual_seed, nn, optim, tensor

from studies.definition import Study
from trainers.training import Training

x, y = tensor(load_digits().data).float() / 16, tensor(load_digits().target)
manual_seed(0)
body, first = nn.Sequential(nn.Linear(64, 32), nn.Tanh()), nn.Linear(32, 5)
adam, loss = optim.Adam([*body.parameters(), *first.parameters()], 0.01), nn.CrossEntropyLoss()
for _ in range(100):
    adam.zero_grad()
    loss(first(body(x[y < 5])), y[y < 5]).backward()
    adam.step()
pairs = list(zip(x[y > 4], y[y > 4] - 5, strict=True))
task = Training(
    model=lambda: nn.Sequential(deepcopy(body), nn.Linear(32, 5)),
    optimizer=lambda net: optim.AdamW(
        {"params": net[i].parameters(), "lr": lr} for i, lr in enumerate((1e-4, 1e-3))
    ),
    data={"train": pairs[:200], "validation": pairs[200:550], "test": pairs[550:]},
    batch_size=20,
    loss=lambda model, batch: loss(model(batch[0]), batch[1]),
    score="accuracy",
)
STUDY = Study(name="two-groups", task=task, epochs=12)
