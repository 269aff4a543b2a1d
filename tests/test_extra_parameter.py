"""A parameter that a study adds is found wherever a parameter is read or shown."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from rich.console import Console
from sqlalchemy import make_url, select, text

from search.results.status import overview
from search.stages.first import FACTORS
from search.stages.space import RELATIVE_MAX_LR
from search.starting.cost import Started, costs
from search.views.dashboard.cards import Cards
from search.views.terminal.live_view import View
from studies.database import open_engine, reading, transaction
from studies.definition import Space
from studies.protocol import declared
from studies.registry import Definition, load
from studies.tables import StudyRow, WorkRow
from tests.conftest import ROOT, Ended, Finished
from tests.extra_study import STUDY
from tests.rows import query
from tests.test_report import Document
from trainers.device import Site

Main = Callable[..., Ended]
STUDY_FILE = ROOT / "tests" / "extra_study.py"
NAMES = ["max_lr", "pct_start", "div_factor", "dropout", "optimizer"]
BASELINE = {"dropout": 0.1, "optimizer": "sgd"}


@dataclass(frozen=True)
class Extra:
    """The extra study, brought to its end once: where it is, what was said and trained."""

    url: str
    folder: Path
    answer: dict[str, Any]
    err: str
    trained: list[dict[str, Any]]

    @property
    def stored(self) -> tuple[str, ...]:
        """Flags of a command about it."""
        return ("--study", "extra", "--storage", self.url)

    def told(self, kind: str) -> list[dict[str, Any]]:
        """Return what the loop was told in the runs of one kind."""
        return [run["params"] for run in self.trained if run["kind"] == kind]

    @property
    def winner(self) -> dict[str, Any]:
        """The parameters of what won by validation, which the verdict takes in this study."""
        assert self.answer["winner"] == self.answer["recommended"]
        candidates = self.answer["candidates"]
        found = next(each for each in candidates if each["slot"] == self.answer["winner"])
        params: dict[str, Any] = found["params"]
        return params

    def work(self) -> list[tuple[str, int, dict[str, Any] | None]]:
        """Return stage, slot and stored parameters of every run."""
        rows = query(make_url(self.url), "SELECT stage, slot, params FROM work ORDER BY id")
        return [(stage, slot, json.loads(p) if p else None) for stage, slot, p in rows]


@pytest.fixture(scope="module")
def extra(tmp_path_factory: pytest.TempPathFactory) -> Extra:
    folder = tmp_path_factory.mktemp("extra")
    url = f"sqlite:///{folder}/a.db"
    run = ("run", "--study", str(STUDY_FILE), "--storage", url, "--workers", "1", "--json")
    note = {"EXTRA_NOTE": str(folder / "note"), "ONECYCLE_CACHE": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "search", *run],
        cwd=ROOT,
        env={**os.environ, **note},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    trained = [json.loads(line) for line in (folder / "note").read_text().splitlines()]
    return Extra(url, folder, json.loads(done.stdout), done.stderr, trained)


def of_task(params: dict[str, Any]) -> dict[str, Any]:
    return {name: params[name] for name in BASELINE}


def test_the_loop_is_told_it_and_sweeps_have_the_baselines_value(extra: Extra) -> None:
    adamw = {**BASELINE, "optimizer": "adamw"}
    assert extra.told("sweep")[:4] == [BASELINE] * 2 + [adamw] * 2, "a range test for each"
    cycles = extra.told("cycle")
    stored = [params or {} for stage, _, params in extra.work() if stage != "range_test"]
    assert cycles == [of_task(params) for params in stored]
    assert len({params["dropout"] for params in cycles}) > 5
    assert {params["optimizer"] for params in cycles} == {"sgd", "adamw"}


def test_the_steps_that_are_timed_have_the_baselines_value_too(extra: Extra) -> None:
    told = extra.told("warm-up")
    assert told
    assert told == [BASELINE] * len(told)


def test_it_is_stored_with_each_cycle(extra: Extra) -> None:
    for stage, slot, params in extra.work():
        if stage == "range_test":
            assert params == {"optimizer": "sgd" if slot < 4 else "adamw"}
            continue
        assert params is not None
        assert list(params) == NAMES
        if (stage, slot) == ("search", 0):
            assert of_task(params) == BASELINE
    searched = {slot: params for stage, slot, params in extra.work() if stage == "search"}
    assert extra.winner == searched[extra.answer["winner"]]


def test_optuna_samples_it_and_knows_its_range(extra: Extra) -> None:
    study = optuna.load_study(study_name="extra", storage=extra.url)
    searched = {slot: params for stage, slot, params in extra.work() if stage == "search"}
    for trial in study.trials:
        own = {name: value for name, value in trial.params.items() if name != RELATIVE_MAX_LR}
        told = searched[trial.user_attrs["slot"]]
        assert {"max_lr": trial.user_attrs["max_lr"], **own} == told
    for trial in study.trials:
        assert trial.distributions["dropout"] == FloatDistribution(0.0, 0.5)
        assert trial.distributions["optimizer"] == CategoricalDistribution(("sgd", "adamw"))


def test_the_answer_holds_it_with_importance_and_region(extra: Extra) -> None:
    answer = extra.answer
    assert answer["parameters"] == NAMES
    assert answer["importances"].keys() == {RELATIVE_MAX_LR, *NAMES[1:]}
    effects = answer["expected"]["effects"]
    assert effects.keys() == set(NAMES)
    assert effects["optimizer"] > 0.02, "0.1 of accuracy in the table"
    assert list(extra.winner) == NAMES
    assert extra.winner["optimizer"] == "adamw"
    region = answer["region"]
    low, high = region["dropout"]
    assert low <= extra.winner["dropout"] <= high or answer["winner"] not in region["slots"]
    assert set(region["optimizer"]) <= {"sgd", "adamw"}


def shown_values(extra: Extra) -> dict[str, str]:
    """Return what is told of the winner, as it is written."""
    return {"dropout": f"{extra.winner['dropout']:.3g}", "optimizer": extra.winner["optimizer"]}


def test_the_terminal_says_it(extra: Extra, main_here: Main) -> None:
    out = main_here("report", *extra.stored).out
    told = (line for line in out.splitlines() if line.startswith("slot ") and "max_lr" in line)
    line = next(told)  # five parameters do not fit the table
    assert all(f"{name} {value}" in line for name, value in shown_values(extra).items())
    low, high = extra.answer["region"]["dropout"]
    optimizers = " or ".join(sorted(extra.answer["region"]["optimizer"]))
    assert f"dropout {low:.3g} to {high:.3g}, optimizer {optimizers}" in out
    shares = extra.answer["importances"]
    assert f"dropout {shares['dropout']:.0%}" in out
    assert f"optimizer {shares['optimizer']:.0%}" in out
    assert f"# The training has dropout={extra.winner['dropout']!r}." in out
    assert "# The training has optimizer='adamw'." in out


def test_every_line_of_a_run_has_it(extra: Extra) -> None:
    lines = [line for line in extra.err.splitlines() if line.startswith("search ")]
    assert len(lines) == 16
    searched = {slot: params for stage, slot, params in extra.work() if stage == "search"}
    for line in lines:
        slot = int(re.findall(r"slot (\d+)", line)[0])
        params = searched[slot]
        assert params is not None
        told = f"dropout {params['dropout']:.3g}, optimizer {params['optimizer']} · score"
        assert told in line


def test_trials_list_it(extra: Extra, main_here: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    table = main_here("trials", *extra.stored).out
    (heading,) = (line for line in table.splitlines() if "dropout" in line)
    assert heading.split()[-3:] == ["dropout", "optimizer", "seconds"]
    rows = list(csv.DictReader(io.StringIO(main_here("trials", *extra.stored, "--csv").out)))
    searched = {slot: params for stage, slot, params in extra.work() if stage == "search"}
    for row in rows:
        params = searched[int(row["slot"])]
        assert params is not None
        told = {name: row[name] for name in NAMES}
        assert told == {name: str(value) for name, value in params.items()}
        shown = next(
            line for line in table.splitlines() if line.split()[:1] == [row["slot"]]
        ).split()
        assert shown[-3:-1] == [f"{params['dropout']:.4g}", row["optimizer"]]
    assert len(rows) == 16


def test_the_status_has_the_best_one(extra: Extra, main_here: Main) -> None:
    said = json.loads(main_here("status", *extra.stored, "--json").out)
    searched = {slot: params for stage, slot, params in extra.work() if stage == "search"}
    assert said["best"]["params"] == searched[said["best"]["slot"]]
    out = main_here("status", *extra.stored).out
    assert said["recommended"] == extra.answer["recommended"]
    assert f"optimizer='{extra.winner['optimizer']}'" in out


def test_the_page_shows_it_in_tiles_and_tables(extra: Extra, main_here: Main) -> None:
    page = extra.folder / "page.html"
    assert main_here("report", *extra.stored, "--html", str(page)).code == 0
    html = page.read_text()
    words = Document(html).text
    assert f"which {', '.join(NAMES)}?" in words
    values = shown_values(extra)
    tiles = html[html.index("<h1") : html.index("<nav")]
    for name, value in values.items():
        assert name in tiles
        assert value in tiles
    headings = [
        re.sub("<[^>]*>", " ", part.split("</thead>")[0]).split()
        for part in html.split("<thead>")[1:]
    ]
    with_it = [words for words in headings if {"dropout", "optimizer"} <= set(words)]
    assert len(with_it) == 2, "the candidates and every trial"
    searched = [params for stage, _, params in extra.work() if stage == "search"]
    for params in searched:
        assert params is not None
        cells = f"<td>{params['dropout']:.3g}</td><td>{params['optimizer']}</td>"
        assert cells in html
    assert "space.extra" in words


def test_a_merge_request_says_it(extra: Extra, main_here: Main) -> None:
    out = main_here("report", *extra.stored, "--markdown").out
    values = shown_values(extra)
    assert f"`dropout` {values['dropout']}, `optimizer` adamw" in out
    (heading,) = (line for line in out.splitlines() if line.startswith("| configuration"))
    assert [cell.strip() for cell in heading.split("|")][5:7] == ["dropout", "optimizer"]
    assert "# The training has optimizer='adamw'." in out


def test_exports_say_it(extra: Extra, main_here: Main) -> None:
    document = json.loads(main_here("export", *extra.stored, "--format", "json").out)
    assert (document["dropout"], document["optimizer"]) == tuple(of_task(extra.winner).values())
    for form in ("torch", "lightning", "transformers"):
        source = main_here("export", *extra.stored, "--format", form).out
        assert f", dropout={extra.winner['dropout']!r}, optimizer='adamw'" in source
        compile(source, form, "exec")


def test_the_note_of_the_dashboard_says_it(extra: Extra) -> None:
    engine = open_engine(make_url(extra.url))
    with reading(engine) as session:
        row = session.scalars(select(StudyRow)).one()
    shown = Cards(engine).of(row.id)
    engine.dispose()
    assert shown is not None
    assert "# The training has optimizer='adamw'." in shown.note
    assert f"dropout={extra.winner['dropout']!r}" in shown.note
    hover = json.loads(shown.figures["onecycle-search"])["data"][0]["customdata"]
    assert any("optimizer adamw" in words for _, words in hover)


def test_it_is_part_of_the_protocol(extra: Extra, main_here: Main, tmp_path: Path) -> None:
    changed = tmp_path / "changed.py"
    source = STUDY_FILE.read_text()
    assert "0.5, baseline=0.1" in source
    changed.write_text(source.replace("0.5, baseline=0.1", "0.4, baseline=0.1"))
    ended = main_here("run", "--study", str(changed), "--storage", extra.url)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "'extra' was made with space.extra = " in ended.err
    with_it = json.loads(
        query(make_url(extra.url), "SELECT declared FROM study")[0][0],
    )
    assert "'dropout': Range(low=0.0, high=0.5" in with_it["space.extra"]


def test_what_is_shown_while_it_runs_has_its_columns(extra: Extra, tmp_path: Path) -> None:
    shutil.copy(make_url(extra.url).database or "", tmp_path / "copy.db")
    engine = open_engine(make_url(f"sqlite:///{tmp_path}/copy.db"))
    with transaction(engine) as session:
        session.execute(text("DELETE FROM work WHERE stage = 'confirmation'"))
        session.execute(text("UPDATE study SET stage = 'search', result = NULL"))
        session.execute(
            text("UPDATE work SET state = 'running', owner = 'h:1:a' WHERE slot > 11 "
                 "AND stage = 'search'")
        )  # fmt: skip
        row = session.scalars(select(StudyRow)).one()
        held = session.scalars(select(WorkRow).where(WorkRow.state == "running")).all()
    site: Any = Site(device="cpu", data=None, cache=tmp_path)
    parts: dict[str, Any] = {
        "definition": Definition(STUDY, "", ""),
        "trainer": None,
        "site": site,
    }
    plan = costs(STUDY, n_trials=16)
    view = View(engine, Started(row, **parts, costs=plan, n_workers=1, images_per_s=100.0))
    assert view.look()
    file = io.StringIO()
    Console(file=file, width=80, color_system=None).print(view.picture(height=24))
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    headings = next(line for line in lines if line.startswith("running")).split()
    assert headings[-5:] == ["max_lr", "pct", "div", "dropout", "optimizer"]
    for work in held:
        params = work.params or {}
        shown = next(line for line in lines if line.startswith(f"search {work.slot} ")).split()
        assert shown[-2:] == [f"{params['dropout']:.3g}", params["optimizer"]]
    now = overview(engine, "extra")
    assert now.best is not None
    best = now.best.params
    assert best is not None
    end = " ".join(line.strip() for line in lines[-4:])  # it is wrapped into 3 lines, or 4
    assert f"dropout {best['dropout']:.3g}, optimizer {best['optimizer']}" in end
    engine.dispose()


def test_a_study_without_extras_shows_no_column_more(finished: Finished, main_here: Main) -> None:
    stored = ("--study", "table", "--storage", finished.storage)
    header = main_here("trials", *stored, "--csv").out.splitlines()[0].split(",")
    assert header[5:8] == ["max_lr", "pct_start", "div_factor"]
    assert header[8] == "epochs"
    assert json.loads(finished.first.out)["parameters"] == NAMES[:3]
    plain = load(str(STUDY_FILE.with_name("table_study.py")))
    assert "space.extra" not in declared(plain.study, plain.source)
    assert "The training has" not in main_here("report", *stored).out


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"dropout": (0.0, 0.5)}, "extra['dropout']: the baseline's value is not known"),
        ({"optimizer": ("sgd", "adamw")}, "extra['optimizer']: the baseline's value is not"),
    ],
)
def test_a_loop_of_ones_own_must_be_told_the_baselines_value(
    extra: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        replace(STUDY, space=Space(extra=extra))


@pytest.mark.slow
def test_label_smoothing_of_the_bundled_loop_is_searched(main_here: Main, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    here = ("--study", str(ROOT / "tests" / "smoothed_study.py"), "--storage", url)
    ended = main_here("run", *here, "--workers", "1", "--json")
    assert ended.code == 0, ended.err
    answer = json.loads(ended.out)
    rows = query(make_url(url), "SELECT slot, params FROM work WHERE stage = 'search'")
    found = {slot: json.loads(params)["label_smoothing"] for slot, params in rows}
    n_first = 1 + len(FACTORS)
    assert sorted(found) == list(range(n_first + 2 + 1)), "then initial points and a proposal"
    assert {found[slot] for slot in range(n_first)} == {0.0}, "the task's own"
    assert len({0.0, found[n_first], found[n_first + 1]}) == 3
    assert all(0.0 <= value <= 0.2 for value in found.values())
    candidates = {c["slot"]: c["params"]["label_smoothing"] for c in answer["candidates"]}
    assert candidates == {slot: found[slot] for slot in candidates}
    protocol = json.loads(query(make_url(url), "SELECT declared FROM study")[0][0])
    assert protocol["baseline.label_smoothing"] == "0.0"
    assert "task.label_smoothing" not in protocol
    table = main_here("trials", "--study", "smoothed", "--storage", url, "--csv").out
    shown = {
        int(row["slot"]): row["label_smoothing"] for row in csv.DictReader(io.StringIO(table))
    }
    assert {slot: float(value) for slot, value in shown.items()} == pytest.approx(found)


def test_a_parameter_that_the_bundled_loop_has_not_is_refused_in_one_line(
    main_here: Main, tmp_path: Path
) -> None:
    file = tmp_path / "momentum.py"
    source = (ROOT / "tests" / "smoothed_study.py").read_text()
    extra = 'extra={"label_smoothing": (0.0, 0.2)}'
    assert extra in source
    asked = 'extra={"dropout": Range(0.0, 0.5, baseline=0.1)}'
    imported = "from studies.digits import STUDY as DIGITS\nfrom studies.params import Range\n"
    source = source.replace("from studies.digits import STUDY as DIGITS\n", imported)
    file.write_text(textwrap.dedent(source.replace(extra, asked)))
    url = f"sqlite:///{tmp_path}/a.db"
    ended = main_here("run", "--study", str(file), "--storage", url, "--workers", "1")
    assert ended.code == 2
    (line,) = ended.err.splitlines()
    assert "extra['dropout']: the bundled loop has no such parameter" in line
    assert "label_smoothing" in line, "and what it has"
