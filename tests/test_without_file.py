"""A study without a file: its flags, the file that they mean, and a whole search of it."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from studies.definition import Study
from studies.errors import StudyError
from studies.flags import Flags
from studies.protocol import declared
from studies.registry import command_words, load, of_flags, with_set
from studies.settings import with_settings
from tests.conftest import ROOT, Ended
from tests.folders import digit_folder
from trainers.errors import TaskError
from trainers.training import Training

Main = Callable[..., Ended]

NET = """
from torch import nn


class Net(nn.Module):
    def __init__(self, n_classes, width=4, in_channels=3):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
            nn.Linear(4 * width, n_classes),
        )

    def forward(self, x):
        return self.body(x)


class Stem(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 7, stride=2, padding=3)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.next = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, options.pop("num_classes", 1000))
        assert not options

    def forward(self, x):
        return self.head(self.next(self.pool(self.conv(x))).mean((2, 3)))


class Patches(nn.Module):
    def __init__(self, classes, **options):
        super().__init__()
        self.size = options.get("image_size", 224)
        self.head = nn.Linear(3 * self.size**2, classes)

    def forward(self, x):
        return self.head(x.flatten(1))


def needs(width, num_classes):
    return Net(num_classes, width)


def fails(num_classes):
    raise RuntimeError("no weights here")


def maps(num_classes):
    return nn.Conv2d(3, num_classes, 3)


def three():
    return Net(3)


def listed():
    return [1]


ready = Net(2)
number = 5
"""
FLAGS = Flags(
    model="torchvision.models:resnet18",
    model_arg={"num_classes": 10},
    stem="small",
    data='/data/it\'s "one"/a b',
    size=32,
    n_classes=10,
    epochs=3,
    batch_size=64,
    optimizer="adam",
    momentum=0.8,
    weight_decay=1e-05,
    flip=True,
)
IN_A_WHILE = (
    *("--set", "n_trials=2", "--set", "exact=true", "--set", "n_finalists=1"),
    *("--set", "n_seeds=2", "--set", "n_sweeps=2", "--set", "n_steps=100"),
)


@pytest.fixture(autouse=True)
def _own_modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", sys.path[:])
    yield
    sys.modules.pop("onecycle_model_net", None)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a folder of grey images of 8 x 8 pixels, and nets."""
    digit_folder(tmp_path / "photos", {0: 50, 1: 50}, size=8)
    (tmp_path / "net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ONECYCLE_STORAGE", f"sqlite:///{tmp_path}/studies.db")
    return tmp_path


def test_flags_are_stored_as_words_that_mean_the_same_study_without_torch() -> None:
    made = of_flags(FLAGS)
    assert Flags.of(FLAGS.words()) == FLAGS
    again = load(made.spec)
    assert (again.study, again.source) == (made.study, made.source)
    assert made.study.name == "a_b-resnet18"
    assert "--n-classes" not in command_words(made.spec)
    code = f"import sys; from studies.registry import load; load({made.spec!r}); "
    code += "print({'torch', 'numpy', 'optuna', 'sqlalchemy'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def test_its_protocol_is_its_fields_and_not_where_the_folder_lies_or_how_the_text_is_laid() -> (
    None
):
    from dataclasses import replace

    made = of_flags(FLAGS)
    stored = declared(made.study, made.source)
    assert stored["code of the study file"] == "none of its own"
    assert stored["task.model.stem"] == "'small'"
    moved = of_flags(replace(FLAGS, data="/elsewhere"))
    assert declared(moved.study, moved.source) == stored
    mine = made.source + "\nSTUDY = (lambda study: study)(STUDY)\n"
    assert declared(made.study, mine)["code of the study file"] != "none of its own"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("epochs", 20, {"screening.epochs": "20"}),
        ("batch_size", 32, {"task.batch_size": "32"}),
        ("n_trials", 7, {"screening.n_trials": "7"}),
        ("weight_decay", 1e-4, {"task.optimizer.weight_decay": "0.0001"}),
        ("optimizer", "ADAMW", {"task.optimizer": "AdamW"}),
        ("optimizer", "rmsprop", {"task.optimizer.name": "'RMSprop'"}),
        ("sampler", "tpe", {"screening.sampler": "'tpe'", "screening.n_initial": "8"}),
        ("space.max_lr", (0.01, 0.1), {"space.max_lr": "(0.01, 0.1)"}),
        ("space.extra.label_smoothing", 0.1, {"space.extra": "{'label_smoothing': 0.1}"}),
        ("augment.flip", True, {"task.augment.flip": "True"}),
        ("n_seeds", 20, {"confirmation.n_seeds": "20"}),
    ],
)
def test_set_changes_one_field_and_comes_back_from_what_is_stored(
    name: str, value: object, says: dict[str, str]
) -> None:
    digits = load("digits")
    changed = with_set(digits, {name: value})
    again = load(changed.spec)
    assert (again.study, again.source) == (changed.study, changed.source)
    before, now = (declared(each.study, each.source) for each in (digits, changed))
    assert {field: now[field] for field in says} == says
    others = {field for field in now if now[field] != before.get(field)}
    assert {field.partition(".")[0] for field in others - {"code of the study file"}} == {
        field.partition(".")[0] for field in says
    }


@pytest.mark.parametrize(
    ("score", "metric", "direction"),
    [("loss", "loss", "minimize"), ("macro F1", "macro F1", "maximize")],
)
def test_another_score_brings_its_metric_and_direction(
    score: str, metric: str, direction: str
) -> None:
    import torch
    from torch.utils.data import TensorDataset

    rows = TensorDataset(torch.zeros(64, 2), torch.zeros(64, dtype=torch.long))
    task = Training(
        model=lambda: torch.nn.Linear(2, 2),
        optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.1),
        data={"train": rows, "validation": rows, "test": rows},
        batch_size=1,
        loss=lambda model, batch: torch.nn.functional.cross_entropy(model(batch[0]), batch[1]),
        score="accuracy",
    )
    study = Study(name="scored", task=task, epochs=2)
    changed = with_settings(study, {"score": score})
    assert (changed.metric, changed.direction) == (metric, direction)
    with pytest.raises(StudyError, match="metric must be"):
        with_settings(study, {"score": score, "metric": "accuracy"})


def test_set_to_what_a_study_says_already_is_the_same_study() -> None:
    digits = load("digits")
    assert with_set(digits, {"epochs": 10, "batch_size": 64, "max_lr": None}) is digits


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("n_trails", 3, r"no such field; did you mean n_trials.*It has epochs, "),
        ("nothing_like_it", 3, r"no such field\. It has epochs, "),
        ("name", "x", "--name names"),
        ("n_trials", "abc", "n_trials must be a number, got 'abc'"),
        ("n_trials", 2.5, "n_trials must be a whole number"),
        ("epochs", 0, "epochs must be a whole number of at least 1, got 0"),
        ("augment.flip", 3, "flip must be true or false, got 3"),
        ("task.model", 3, "model must be a text, got 3"),
        ("optimizer", "adamm", "did you mean Adam"),
        ("optimizer", "lbfgs", "needs a closure"),
        ("sampler", "nope", "sampler must be one of kg"),
        ("space.extra.speed", (0, 1), "the bundled loop has no such parameter"),
    ],
)
def test_set_says_what_is_wrong_and_what_there_is(name: str, value: object, error: str) -> None:
    with pytest.raises(StudyError, match=f"--set .*{error}"):
        with_set(load("digits"), {name: value})


def test_the_optimizers_are_those_of_this_torch() -> None:
    import inspect

    import torch

    from trainers.groups import KINDS, has_momentum
    from trainers.optimizers import NAMES, optimizer_named
    from trainers.optimizers import has_momentum as cycles_momentum

    kinds = {
        name: kind
        for name, kind in vars(torch.optim).items()
        if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)
    }
    assert kinds.keys() - {"Optimizer"} == KINDS.keys()
    net = torch.nn.Linear(3, 2)
    for name in NAMES:
        made = optimizer_named(name.upper())
        assert type(made.build(net)) is kinds[name]
        if name != "SGD":
            own = inspect.signature(kinds[name]).parameters["weight_decay"].default
            assert made.weight_decay == own, name
        driven = has_momentum(made.build(net))
        assert cycles_momentum(made) == driven, name
    held = optimizer_named("nadam", momentum=0.8).build(net)
    assert held.param_groups[0]["betas"] == (0.8, 0.999)


def test_a_model_gets_classes_channels_and_size_by_the_names_that_it_has(here: Path) -> None:
    from trainers.fitting import Images, fitted

    grey, colour = (Images(size=32, channels=n, n_classes=7) for n in (1, 3))  # type: ignore[arg-type]
    net = fitted("net.py:Net", {"width": 6}, grey, stem=None).model
    assert net.arguments == {"width": 6, "n_classes": 7, "in_channels": 1}
    patches = fitted("net.py:Patches", {}, colour, stem=None).model
    assert patches.arguments == {"classes": 7, "image_size": 32}
    stem = fitted("net.py:Stem", {}, grey, stem=None)
    assert (stem.model.arguments, stem.model.stem) == ({"num_classes": 7}, "small")
    assert stem.model.channels == 1
    assert "3x3 of stride 1 without pooling" in " ".join(stem.remarks)
    with pytest.raises(TaskError, match="it takes colour: --channels 3 gives it the grey three"):
        fitted("net.py:Patches", {"image_size": 32}, grey, stem=None)
    conv = stem.model().get_submodule("conv")
    assert (conv.in_channels, conv.kernel_size, conv.stride) == (1, (3, 3), (1, 1))
    assert fitted("net.py:Stem", {}, colour, stem="own").model.stem == "own"


def test_the_stem_of_torchvisions_resnet_is_made_small_and_that_of_another_net_is_left() -> None:
    import torch
    from torchvision.models import mobilenet_v3_small, resnet18

    from trainers.stems import small_stem

    net = resnet18(num_classes=2)
    assert small_stem(net)
    sizes: list[torch.Size] = []
    net.layer1.register_forward_hook(lambda _, __, out: sizes.append(out.shape))
    with torch.no_grad():
        net.eval()(torch.zeros(1, 3, 32, 32))
    assert sizes == [(1, 64, 32, 32)]
    assert not small_stem(mobilenet_v3_small(num_classes=2))


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        ((), "--study is missing"),
        (("--data", "photos"), "--model is missing"),
        (("--model", "net.py:Net"), "--data is missing"),
        (("--epochs", "3"), "--epochs: of which study"),
        (("--study", "digits", "--epochs", "3"), "--set epochs=20"),
        (("--study", "digits", "--model", "net.py:Net"), "leave one of the two out"),
        (("--data", "photos", "--model", "resnet18"), "torchvision.models:resnet18"),
        (("--data", "photos", "--model", "torch.nn.Linear"), "write torch.nn:Linear"),
        (("--data", "photos", "--model", "nowhere.models:net"), "no module 'nowhere'"),
        (("--data", "photos", "--model", "nothere.py:Net"), "there is no file"),
        (("--data", "photos", "--model", "net.py:Nett"), "it has Net"),
        (("--data", "photos", "--model", "net.py:ready"), "each run needs a new one"),
        (("--data", "photos", "--model", "net.py:number"), "class or a function, got 5"),
        (("--data", "photos", "--model", "net.py:needs"), "--model-arg width=..."),
        (("--data", "photos", "--model", "net.py:fails"), "no weights here"),
        (("--data", "photos", "--model", "net.py:listed"), "torch.nn.Module, got list"),
        (("--data", "photos", "--model", "net.py:maps", "--channels", "3"), "onecycle new"),
        (("--data", "photos", "--model", "subprocess:run"), "does not say that it makes"),
        (("--data", "photos", "--model", "net.py:Net", "--stem", "x"), "own or small"),
        (("--data", "photos", "--model", "net.py:Net", "--batch-size", "0"), "at least 1"),
        (("--data", "photos", "--model", "net.py:Net", "--label-smoothing", "nan"), "a number"),
        (("--data", "photos", "--model", "net.py:Net", "--optimizer-arg", "x=1"), "argument 'x'"),
        (("--data", "nothere", "--model", "net.py:Net"), "no such folder"),
    ],
)
def test_what_does_not_fit_is_one_line_with_a_way_on(
    here: Path, main_here: Main, flags: tuple[str, ...], error: str
) -> None:
    ended = main_here("run", *flags, "--dry-run")
    assert ended.code == 2
    assert error in ended.err
    assert len(ended.err.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_folder_and_a_model_are_searched_resumed_shown_and_go_on_as_a_file(
    here: Path, main_here: Main, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    flags = ("--data", "photos", "--model", "net.py:Net", "--batch-size", "8", "--epochs", "6")
    flags = (*flags, "--device", "cpu", "--workers", "1", *IN_A_WHILE)
    first = main_here("run", *flags)
    assert first.code == 0, first.err
    assert "study photos-Net (another name: --name): 2 classes" in caplog.text
    assert "(n_classes=2, in_channels=1)" in caplog.text

    again = main_here("run", *flags)
    assert again.code == 0
    assert "nothing left to do" in caplog.text
    other = main_here("run", *flags, "--optimizer", "adamw")
    assert other.code == 2
    assert "was made with task.optimizer = SGD, now it is AdamW" in other.err

    caplog.clear()
    shown = main_here("show", "--study", "photos-Net")
    (here / "mine.py").write_text(shown.out)
    resumed = main_here("run", "--study", "mine.py", "--name", "photos-Net")
    assert resumed.code == 0, resumed.err
    assert "nothing left to do" in caplog.text

    exports = {
        form: main_here("export", "--study", "photos-Net", "--format", form)
        for form in ("torch", "lightning", "transformers", "json")
    }
    for form, export in exports.items():
        assert "study_format" in export.out or "study format 1" in export.out, form

    trained = main_here("train", "--study", "photos-Net", "--out", "model.pt")
    assert trained.code == 0, trained.err
    lines = [line.strip() for line in trained.out.partition("Load it:")[2].strip().splitlines()]
    names: dict[str, object] = {}
    exec("\n".join(lines), names)
    assert names["facts"].study_format == 1  # type: ignore[attr-defined]


def test_a_study_from_a_file_with_set_is_shown_as_a_file_that_is_the_same(
    here: Path, main_here: Main
) -> None:
    from search.starting.catalog import find, find_or_create
    from search.starting.opening import opened

    definition = with_set(load("digits"), {"epochs": 3})
    with opened(None, make=True) as engine:
        find_or_create(engine, definition, name="short", seed=None)
        stored = find(engine, "short").declared
    shown = main_here("show", "--study", "short")
    assert shown.code == 0
    (here / "mine.py").write_text(shown.out)
    mine = load(str(here / "mine.py"))
    assert declared(mine.study, mine.source) == stored


def test_an_object_without_functions_of_its_own_is_shown_as_a_file_that_is_the_same(
    here: Path, main_here: Main
) -> None:
    from dataclasses import replace

    from search.starting.asked import definition_of
    from search.starting.catalog import find, find_or_create
    from search.starting.opening import opened
    from studies.protocol import compare

    digits = load("digits").study
    study = replace(digits, name="mine", space=replace(digits.space, weight_decay=(1e-5, 1e-2)))
    with opened(None, make=True) as engine:
        find_or_create(engine, definition_of(study), name="mine", seed=None)
        net = replace(digits.task, model=lambda: None)  # type: ignore[type-var]
        find_or_create(engine, definition_of(replace(study, task=net)), name="net", seed=None)
        stored = find(engine, "mine").declared
    shown = main_here("show", "--study", "mine")
    assert shown.code == 0, shown.err
    (here / "mine.py").write_text(shown.out)
    mine = load(str(here / "mine.py"))
    assert mine.study == study
    compare("mine", stored, declared(mine.study, mine.source))
    refused = main_here("show", "--study", "net")
    assert refused.code == 2
    assert "code of task.model" in refused.err
