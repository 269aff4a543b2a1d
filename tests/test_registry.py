"""Loading a study: the bundled ones, one's own file, and what each costs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from search.starting.cost import costs
from studies.errors import StudyFileError, UnknownStudyError
from studies.registry import BUNDLED, load
from tests.conftest import ROOT, TABLE_STUDY

LOAD_ALL = """
import json, sys
from studies.registry import BUNDLED, load
names = [load(spec).study.name for spec in (*BUNDLED, "tests/table_study.py")]
print(json.dumps([names, sorted(sys.modules)]))
"""


@pytest.fixture(autouse=True)
def _own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the folders that loading a study file puts on the path."""
    monkeypatch.setattr(sys, "path", sys.path[:])


def test_studies_load_without_torch_or_a_database() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOAD_ALL], cwd=ROOT, capture_output=True, text=True, check=True
    )
    names, modules = json.loads(done.stdout)
    assert names == ["digits", "cifar-small", "cifar", "table"]
    assert not {"torch", "optuna", "sqlalchemy", "sklearn", "numpy"} & set(modules)


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_study_has_its_name_and_its_source(name: str) -> None:
    found = load(name)
    assert found.study.name == found.spec == name
    assert f'name="{name}"' in found.source
    assert found.study.diverged_value == pytest.approx(0.1)
    assert found.study.range_test.n_steps >= 200
    assert found.study.range_test.n_sweeps == 5
    assert found.study.confirmation.n_finalists == 3
    assert found.study.confirmation.n_seeds == 10


def test_digits_has_enough_configurations_of_enough_steps() -> None:
    digits = load("digits").study
    assert digits.screening.n_trials >= 12
    assert digits.cycle_steps >= 100


def test_cifar_small_stays_within_its_budget_of_images() -> None:
    study = load("cifar-small").study
    stages = costs(study, n_trials=study.screening.n_trials)
    assert sum(stage.n_images for stage in stages) <= 2_500_000


def test_a_path_is_stored_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TABLE_STUDY.parent)
    found = load("table_study.py")
    assert found.spec == str(TABLE_STUDY)
    assert found.source == TABLE_STUDY.read_text()


def test_a_study_file_may_import_what_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "my_trial_count.py").write_text("N_TRIALS = 5\n")
    source = TABLE_STUDY.read_text().replace("n_trials=12", "n_trials=N_TRIALS")
    path = tmp_path / "study.py"
    path.write_text("from my_trial_count import N_TRIALS\n" + source)
    assert load(str(path)).study.screening.n_trials == 5


def test_a_syntax_error_in_a_module_beside_it_names_that_module(tmp_path: Path) -> None:
    (tmp_path / "my_broken_helper.py").write_text("x = (\n")
    path = tmp_path / "study.py"
    path.write_text("\n\nimport my_broken_helper\n")
    with pytest.raises(StudyFileError, match=r"/my_broken_helper\.py, line 1: "):
        load(str(path))


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(UnknownStudyError, match=r"'cifar10'; known: digits, cifar-small, cifar,"):
        load("cifar10")


@pytest.mark.parametrize("name", ["nothing.py", "folder.py"])
def test_a_path_that_is_no_file_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(UnknownStudyError, match=rf"no study file at .*{name}"):
        load(str(tmp_path / name))


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "study.py"
    path.write_bytes(b"# coding: latin-1\nSTUDY = '\xe9'\n")
    with pytest.raises(StudyFileError, match=r"study\.py.*STUDY"):
        load(str(path))
    path.write_bytes(b"x = '\xff'\n")
    with pytest.raises(StudyFileError, match=r"study\.py, line 1"):
        load(str(path))
    path.write_bytes(b"x = 1\0\n")
    with pytest.raises(StudyFileError, match=r"study\.py"):
        load(str(path))


def test_a_file_in_another_encoding_keeps_its_text(tmp_path: Path) -> None:
    source = "# coding: latin-1\n" + TABLE_STUDY.read_text() + "NOTE = 'é'\n"
    path = tmp_path / "study.py"
    path.write_text(source, encoding="latin-1")
    assert load(str(path)).source == source
