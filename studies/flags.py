"""A study without a file: its flags, the study file that they mean, and what loads it again."""

import argparse
import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn

from studies.errors import StudyError
from studies.limits import short
from trainers.augment import Augment
from trainers.images.layout import PART_NAMES
from trainers.named_model import NamedModel
from trainers.optimizers import optimizer_named

MARK = "A study without a file, as onecycle wrote it: all of it stands in its fields."
"""The first line of such a study file, by which its code is known to be ours."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Flags:
    """A folder of images, a model and how it is trained: the flags of `run`, all of them resolved.

    `momentum` holds the optimizer's at this value; None leaves it to the cycle.
    """

    model: str
    data: str
    size: int
    n_classes: int
    epochs: int
    batch_size: int
    optimizer: str = "SGD"
    model_arg: Mapping[str, Any] = field(default_factory=dict)
    optimizer_arg: Mapping[str, Any] = field(default_factory=dict)
    channels: int = 3
    stem: str = "own"
    weight_decay: float | None = None
    momentum: float | None = None
    label_smoothing: float = 0.0
    crop: int = 0
    flip: bool = False
    precision: str = "auto"

    @property
    def name(self) -> str:
        """The name of the study: the folder's and the model's, as in photos-resnet18."""
        folder = Path(self.data)
        if folder.name.lower() in PART_NAMES:
            folder = folder.parent
        name = f"{folder.name or 'data'}-{self.model.rpartition(':')[2]}"
        return re.sub(r"[^\w.-]", "_", name)[:150]

    def words(self) -> list[str]:
        """Return the words of a command line that mean these flags, what is default left out."""
        words = list[str]()
        for each in fields(self):
            value = getattr(self, each.name)
            if value == each.default or (isinstance(value, Mapping) and not value):
                continue
            flag = f"--{each.name.replace('_', '-')}"
            if isinstance(value, Mapping):
                words += [w for n, v in value.items() for w in (flag, f"{n}={word_of(v)}")]
            else:
                words += [flag] if value is True else [flag, word_of(value)]
        return words

    @classmethod
    def of(cls, words: Sequence[str]) -> "Flags":
        """Return the flags that words() gave; raise StudyError for other words."""
        given = vars(_parser().parse_args(list(words)))
        for name in ("model_arg", "optimizer_arg"):
            flag = f"--{name.replace('_', '-')}"
            given[name] = dict(setting(text, flag) for text in given[name])
        return cls(**{name: value for name, value in given.items() if value is not None})

    def source(self) -> str:
        """Return the study file that these flags mean; raise ValueError for values not allowed."""
        optimizer = optimizer_named(
            self.optimizer,
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            options=self.optimizer_arg,
        )
        kind, crop = type(optimizer), Augment(crop=self.crop, flip=self.flip)
        model = NamedModel(
            where=self.model,
            arguments=self.model_arg,
            stem=self.stem,  # type: ignore[arg-type]
            channels=1 if self.channels == 1 else None,
        )
        images = f"ImageFolder(path={self.data!r}, size={self.size}, channels={self.channels})"
        return _FILE.format(
            mark=MARK,
            of_task=", ".join(["Task", *([kind.__name__] if kind.__module__ == _TASK else [])]),
            of_optimizers="" if kind.__module__ == _TASK else _OF_OPTIMIZERS,
            of_space="" if self.momentum is None else "from studies.space import Space\n",
            name=self.name,
            images=images,
            model=model,
            optimizer=optimizer,
            augment=crop,
            space="" if self.momentum is None else _SPACE,
            flags=self,
        )


_TASK = "trainers.task"
_OF_OPTIMIZERS = "from trainers.optimizers import TorchOptimizer\n"
_SPACE = '    space=Space(extra={"cycle_momentum": False}),\n'
_FILE = '''\
"""{mark}"""

from studies.definition import Study
{of_space}from trainers.augment import Augment
from trainers.data import ImageFolder
from trainers.named_model import NamedModel
{of_optimizers}from trainers.task import {of_task}

STUDY = Study(
    name={name!r},
    task=Task(
        data={images},
        model={model!r},
        batch_size={flags.batch_size},
        optimizer={optimizer!r},
        label_smoothing={flags.label_smoothing},
        augment={augment!r},
        precision={flags.precision!r},
    ),
    epochs={flags.epochs},
    diverged_value=1 / {flags.n_classes},  # a guess
{space})
'''


_KINDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("studies.definition", ("Study", "RangeTest", "Screening", "Confirmation")),
    ("studies.space", ("Space",)),
    ("studies.params", ("Choice", "Fixed", "Range")),
    ("trainers.augment", ("Augment",)),
    ("trainers.data", ("Cifar10", "Digits", "ImageFolder")),
    ("trainers.named_model", ("NamedModel",)),
    ("trainers.optimizers", ("TorchOptimizer",)),
    ("trainers.task", ("SGD", "AdamW", "Task")),
)
"""What a study file without code of its own is made of, by the module that has it."""


def source_of_fields(name: str, declared: Mapping[str, str]) -> str:
    """Return the study file that these fields of a protocol mean; they hold all of the study.

    Raises StudyError where they name what is none of ours.
    """
    known = {kind: module for module, kinds in _KINDS for kind in kinds}
    used = {"Study"}
    # What is searched is no field of the task: the baseline still has its value of it.
    moved = {"baseline.weight_decay": "task.optimizer.weight_decay"}
    declared = {
        moved.get(key, key.replace("baseline.", "task.")): text for key, text in declared.items()
    }

    def made(path: str, kind: str) -> str:
        if kind not in known:
            raise StudyError(f"{path} is {kind}, which is not stored as code")
        used.add(kind)
        told = [f"{field}={text}" for field, text in inside(path)]
        return f"{kind}({', '.join(told)})"

    def inside(path: str) -> Iterator[tuple[str, str]]:
        for key, text in declared.items():
            above, _, field = key.rpartition(".")
            if above != path or field == "counted":
                continue
            deeper = any(other.startswith(f"{key}.") for other in declared)
            used.update(kind for kind in known if f"{kind}(" in text)
            yield field, made(key, text) if deeper else text

    parts = ("task", "screening", "range_test", "space", "confirmation")
    fields = [f"    {part}={made(part, declared[part])},\n" for part in parts]
    own = ("diverged_value", "direction", "metric")
    fields += [f"    {field}={declared[field]},\n" for field in own]
    imports = [
        f"from {module} import {', '.join(kind for kind in kinds if kind in used)}\n"
        for module, kinds in _KINDS
        if used & set(kinds)
    ]
    head = f'"""{MARK}"""\n\n{"".join(imports)}\n'
    return f"{head}STUDY = Study(\n    name={name!r},\n{''.join(fields)})\n"


def is_written_by_us(tree: ast.Module) -> bool:
    """Whether a study file is as source() wrote it: fields alone, no code of its author's."""
    if (ast.get_docstring(tree) or "").partition("\n")[0] != MARK:
        return False
    _, *rest = tree.body
    code = (ast.Lambda, ast.comprehension, ast.NamedExpr)
    return all(
        (isinstance(each, ast.ImportFrom) and _is_ours(each.module))
        or (isinstance(each, ast.Assign) and not any(isinstance(n, code) for n in ast.walk(each)))
        for each in rest
    )


def _is_ours(module: str | None) -> bool:
    return (module or "").partition(".")[0] in ("studies", "trainers")


def value_of(text: str) -> Any:
    """Return the value that a word of a command line means: Python's, true, false, or the text."""
    words = {"true": True, "false": False, "none": None}
    if text.strip().lower() in words:
        return words[text.strip().lower()]
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def setting(text: str, flag: str) -> tuple[str, Any]:
    """Return name and value of NAME=VALUE; raise StudyError for what is none."""
    name, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[^\W\d][\w.]*", name.strip()):
        raise StudyError(f"{flag} {short(text)}: must be NAME=VALUE")
    return name.strip(), value_of(value)


def word_of(value: Any) -> str:
    """Return the word that value_of() reads as this value."""
    return value if isinstance(value, str) and value_of(value) == value else repr(value)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise StudyError(f"the flags of a stored study do not load: {message}")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(add_help=False, allow_abbrev=False)
    numbers: dict[type, tuple[str, ...]] = {
        int: ("size", "n_classes", "epochs", "batch_size", "channels", "crop"),
        float: ("weight_decay", "momentum", "label_smoothing"),
    }
    for kind, names in numbers.items():
        for name in names:
            parser.add_argument(f"--{name.replace('_', '-')}", type=kind)
    for name in ("model", "data", "optimizer", "stem", "precision"):
        parser.add_argument(f"--{name}")
    for name in ("model-arg", "optimizer-arg"):
        parser.add_argument(f"--{name}", action="append", default=[])
    parser.add_argument("--flip", action="store_true", default=None)
    return parser
