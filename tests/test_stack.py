"""The files of a deployment: what linters say of them, what they run, and that it works."""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import URL

from search.errors import EXIT_GIVEN_BACK, EXIT_NO_RESULT, EXIT_USER_ERROR
from tests.commands import parsed
from tests.conftest import ROOT, TABLE_STUDY, Ended, unavailable
from tests.postgres import PASSWORD, program
from tests.test_processes import assert_exact
from tests.waits import wait_for

pytestmark = pytest.mark.slow

Start = Callable[..., "subprocess.Popen[str]"]
KUBERNETES = ROOT / "deploy" / "kubernetes"
SLURM = ROOT / "deploy" / "slurm"
OF_TASTE = (
    "no-build-and-image",  # what is built here has a name, so that four services share it
    "service-keys-order",
    "services-alphabetical-order",
    "top-level-properties-order",
)


def lint(command: str, *arguments: str) -> None:
    """Run a linter that came with the tests' packages or is on the PATH."""
    found = shutil.which(command, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if found is None:
        unavailable(f"{command} is not installed")
    done = subprocess.run(
        [found, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


# docker-compose


def services(**environment: str) -> dict[str, dict[str, Any]]:
    """Return the services of docker-compose.yml, with variables put in as compose does."""

    def value(found: "re.Match[str]") -> str:
        name, required, default = found[1], found[2] == ":?", found[3]
        if required and not environment.get(name):
            raise KeyError(name)
        return environment.get(name) or default

    text = (ROOT / "docker-compose.yml").read_text()
    text = re.sub(r"\$\{(\w+)(:[-?])([^}]*)\}", value, text)
    found: dict[str, dict[str, Any]] = yaml.safe_load(text)["services"]
    return found


def test_linters_have_nothing_to_say_of_the_image_and_the_services() -> None:
    lint("hadolint", "--no-color", "Dockerfile")
    lint("dclint", "docker-compose.yml", "--max-warnings", "0", "--disable-rule", *OF_TASTE)


def test_no_service_starts_without_the_secrets() -> None:
    given = dict(re.findall(r"^(\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert given == {
        "POSTGRES_PASSWORD": "",
        "ONECYCLE_DASHBOARD_PASSWORD": "",
        "ONECYCLE_STUDY": "digits",
    }
    with pytest.raises(KeyError, match="POSTGRES_PASSWORD"):
        services(**given)
    with pytest.raises(KeyError, match="ONECYCLE_DASHBOARD_PASSWORD"):
        services(**{**given, "POSTGRES_PASSWORD": "x"})


def test_services_are_confined_and_reached_from_this_host_alone() -> None:
    for name, service in services(POSTGRES_PASSWORD="x", ONECYCLE_DASHBOARD_PASSWORD="y").items():
        assert service["read_only"], name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert "restart" in service, name
        if name != "db":
            assert service["cap_drop"] == ["ALL"], name
    assert re.search(r"^USER 10001", (ROOT / "Dockerfile").read_text(), re.MULTILINE)


def test_the_services_as_processes_bring_a_study_to_its_end_and_show_it(
    postgres_url: URL, start_onecycle: Start, onecycle: Callable[..., Ended]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    stack = services(
        POSTGRES_PASSWORD=PASSWORD,
        ONECYCLE_DASHBOARD_PASSWORD="look",
        ONECYCLE_STUDY=str(TABLE_STUDY),
    )
    server = f"{postgres_url.host}:{postgres_url.port}/{postgres_url.database}"
    storage = stack["init"]["environment"]["ONECYCLE_STORAGE"].replace("db/onecycle", server)

    def command(name: str) -> list[str]:
        return [part.replace("8080", port) for part in stack[name]["command"]]

    def environment(name: str) -> dict[str, str]:
        return {**stack[name]["environment"], "ONECYCLE_STORAGE": storage}

    is_ready = stack["db"]["healthcheck"]["test"]
    at = {**os.environ, "PGPORT": str(postgres_url.port)}
    subprocess.run([program(is_ready[1]) or is_ready[1], *is_ready[2:]], env=at, check=True)
    dashboard = start_onecycle(*command("dashboard"), **environment("dashboard"))
    init = onecycle(*command("init"), **environment("init"))
    assert init.code == 0, init.err
    workers = [start_onecycle(*command("worker"), **environment("worker")) for _ in range(2)]
    check = stack["worker"]["healthcheck"]["test"][2:]
    assert onecycle(*check, **environment("worker")).code == 0
    for worker in workers:
        out, err = worker.communicate(timeout=300)
        assert worker.returncode == 0, err
        assert "OneCycleLR(" in out
    assert_exact(postgres_url)

    check = [part.replace("8080", port) for part in stack["dashboard"]["healthcheck"]["test"]]
    healthy = [sys.executable, *check[2:]]
    wait_for(lambda: subprocess.run(healthy, stderr=subprocess.DEVNULL).returncode == 0)
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/studies",
        headers={"Authorization": "Basic " + b64encode(b"me:look").decode()},
    )
    with urllib.request.urlopen(request) as answer:
        shown = [study["study_name"] for study in json.load(answer)["study_summaries"]]
    assert "table" in shown
    assert dashboard.poll() is None


# Kubernetes


def manifests() -> Iterator[dict[str, Any]]:
    for name in yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]:
        yield from yaml.safe_load_all((KUBERNETES / name).read_text())


def manifest(kind: str) -> dict[str, Any]:
    (found,) = [each["spec"] for each in manifests() if each["kind"] == kind]
    return found  # type: ignore[no-any-return]


def test_the_manifests_are_valid_and_all_of_them_are_applied() -> None:
    files = sorted(f.name for f in KUBERNETES.glob("*.yaml") if f.name != "kustomization.yaml")
    listed = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == files
    lint("kubernetes-validate", "--strict", *(str(KUBERNETES / name) for name in files))


def test_a_scheduled_search_is_the_same_job_that_ends_in_time() -> None:
    job, scheduled = manifest("Job"), manifest("CronJob")
    again = scheduled["jobTemplate"]["spec"]
    assert scheduled["concurrencyPolicy"] == "Forbid"
    assert again.pop("activeDeadlineSeconds") < 24 * 3600
    del job["ttlSecondsAfterFinished"]
    assert again == job


def test_the_job_knows_what_exit_codes_mean() -> None:
    rules = manifest("Job")["podFailurePolicy"]["rules"]
    by_code = {
        code: rule["action"]
        for rule in rules
        if "onExitCodes" in rule
        for code in rule["onExitCodes"]["values"]
    }
    assert by_code == {
        EXIT_GIVEN_BACK: "Ignore",
        EXIT_NO_RESULT: "FailJob",
        EXIT_USER_ERROR: "FailJob",
    }
    assert {"type": "DisruptionTarget"} in rules[0]["onPodConditions"]


@pytest.mark.parametrize("kind", ["Job", "CronJob", "Deployment"])
def test_pods_run_a_command_that_is_there_confined_with_secrets_by_reference(kind: str) -> None:
    spec = manifest(kind)
    pod = (spec["jobTemplate"]["spec"] if kind == "CronJob" else spec)["template"]["spec"]
    (container,) = pod["containers"]
    name, flags = parsed(container["args"])
    assert name == ("dashboard" if kind == "Deployment" else "run")
    if kind != "Deployment":
        assert (flags["study"], flags["workers"]) == ("cifar", 1)
        assert container["resources"]["requests"]["nvidia.com/gpu"] == "1"
        assert pod["terminationGracePeriodSeconds"] >= 60
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert all("secretKeyRef" in each["valueFrom"] for each in container["env"])


# scheduled on Slurm


@pytest.mark.parametrize("name", ["crontab", "scrontab"])
def test_scheduled_lines_call_the_script_with_flags_of_submit(name: str) -> None:
    (line,) = [
        line for line in (SLURM / name).read_text().splitlines() if line[0] in "0123456789*"
    ]
    script, *flags = shlex.split(line)[5:]
    assert script.endswith("/deploy/slurm/scheduled.sh")
    assert os.access(SLURM / "scheduled.sh", os.X_OK)
    assert parsed(["submit", *flags])[1]["workers"] == 8


def test_the_note_on_clusters_names_commands_that_are_there() -> None:
    page = (ROOT / "docs" / "cluster.md").read_text()
    lines = [
        shlex.split(line.partition("onecycle ")[2], comments=True)
        for block in re.findall(r"^```\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
        if re.match(r"(\w+=\S+ )?onecycle ", line)
    ]
    assert len(lines) >= 6
    for line in lines:
        parsed(line)
