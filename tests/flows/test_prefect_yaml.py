"""What `prefect.yaml` deploys: loadable, accepted by the server with blocks, run by a worker."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import PrefectHTTPStatusError
from prefect.flows import Flow
from prefect.settings import PREFECT_API_URL, temporary_settings

from blocks.errors import SettingsInvalid
from blocks.places.backends import LocalBackend, SSHBackend
from deployments.bootstrap import PREFECT_FILE, Deployment, bootstrap, read_deployments
from deployments.server import ServerAddress
from tests.server import wait_until

DEPLOYMENTS = {deployment.name: deployment for deployment in read_deployments()}
FULL_NAMES = [f"mission/{name}" for name in DEPLOYMENTS]
LOCAL, FARM = LocalBackend(slots=2), SSHBackend(hosts=["a", "b"])


@pytest.fixture
def deployed(prefect_client: ServerAddress, tmp_path: Path) -> tuple[str, ...]:
    return bootstrap(tmp_path)


def test_there_is_one_on_demand_and_a_paused_nightly_one_with_a_timezone() -> None:
    assert DEPLOYMENTS["mission"].schedules == []
    (schedule,) = DEPLOYMENTS["nightly"].schedules
    assert (schedule.active, schedule.slug) == (False, "nightly")
    assert schedule.timezone


@pytest.mark.parametrize("deployment", DEPLOYMENTS.values(), ids=lambda each: each.name)
def test_every_entrypoint_is_a_flow_that_accepts_the_declared_parameters(
    deployment: Deployment,
) -> None:
    flow = deployment.load_flow()
    assert isinstance(flow, Flow)
    assert flow.validate_parameters(deployment.parameters)


@pytest.mark.parametrize("deployment", DEPLOYMENTS.values(), ids=lambda each: each.name)
def test_runs_log_what_our_modules_log(deployment: Deployment) -> None:
    environment = deployment.work_pool.job_variables["env"]
    assert environment["PREFECT_LOGGING_EXTRA_LOGGERS"] == "flows,blocks"
    assert environment["PREFECT_LOGGING_ROOT_LEVEL"] == "INFO"


def test_a_path_entrypoint_is_refused() -> None:
    deployment = DEPLOYMENTS["mission"].model_copy(
        update={"entrypoint": "flows/mission.py:mission"}
    )
    with pytest.raises(SettingsInvalid, match="name a module"):
        deployment.load_flow()


def test_a_key_without_effect_is_refused(tmp_path: Path) -> None:
    text = PREFECT_FILE.read_text().replace("tags: [mission]", "tagz: [mission]")
    (tmp_path / "prefect.yaml").write_text(text)
    with pytest.raises(SettingsInvalid, match="tagz"):
        read_deployments(tmp_path / "prefect.yaml")


@pytest.mark.needs_server
def test_bootstrap_brings_pool_deployments_and_a_default_backend(
    deployed: tuple[str, ...], tmp_path: Path
) -> None:
    assert sorted(deployed) == sorted(FULL_NAMES)
    with get_client(sync_client=True) as client:
        assert client.read_work_pool("mission").type == "process"
        for name in deployed:
            deployment = client.read_deployment_by_name(name)
            assert deployment.entrypoint == "flows.mission.mission"
            assert deployment.job_variables["working_dir"] == str(tmp_path)
    backend = LocalBackend.load("local")
    assert isinstance(backend, LocalBackend)
    assert backend.slots >= 1


@pytest.mark.needs_server
def test_bootstrapping_again_changes_nothing_and_a_change_keeps_what_the_ui_activated(
    deployed: tuple[str, ...], tmp_path: Path
) -> None:
    def nightly() -> Any:
        with get_client(sync_client=True) as client:
            return client.read_deployment_by_name("mission/nightly")

    before = nightly()
    bootstrap(tmp_path)
    assert nightly() == before

    with get_client(sync_client=True) as client:
        client.update_deployment_schedule(before.id, before.schedules[0].id, active=True)
    changed = tmp_path / "prefect.yaml"
    changed.write_text(PREFECT_FILE.read_text().replace('"0 1 * * *"', '"0 2 * * *"'))
    bootstrap(tmp_path, prefect_file=changed)
    (schedule,) = nightly().schedules
    assert (schedule.schedule.cron, schedule.active) == ("0 2 * * *", True)
    with get_client(sync_client=True) as client:
        client.update_deployment_schedule(before.id, schedule.id, active=False)


def create_run(name: str, parameters: dict[str, Any]) -> FlowRun:
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name(name)
        return client.create_flow_run_from_deployment(deployment.id, parameters=parameters)


def cancel(run: FlowRun) -> None:
    """Nothing of this test is left for the worker of another."""
    with get_client(sync_client=True) as client:
        client.delete_flow_run(run.id)


def reference(document: UUID, slug: str, *, by_slug: bool) -> dict[str, Any]:
    inner = {"block_document_slug": slug} if by_slug else {"block_document_id": str(document)}
    return {"$ref": inner}


@pytest.mark.needs_server
@pytest.mark.parametrize("name", FULL_NAMES)
@pytest.mark.parametrize("by_slug", [True, False], ids=["by slug", "by id"])
@pytest.mark.parametrize("block", [LOCAL, FARM], ids=["local", "ssh"])
def test_the_server_accepts_a_run_with_a_reference_to_a_block(
    deployed: tuple[str, ...], name: str, by_slug: bool, block: LocalBackend | SSHBackend
) -> None:
    document = block.save("referenced", overwrite=True)
    assert isinstance(document, UUID)
    slug = f"{block.get_block_type_slug()}/referenced"
    parameters = {"mission_file": "mission.toml"}
    run = create_run(name, parameters | {"backend": reference(document, slug, by_slug=by_slug)})
    assert run.state is not None
    assert run.state.is_scheduled()
    cancel(run)


@pytest.mark.needs_server
@pytest.mark.parametrize(
    "parameters",
    [
        {"mission_file": "mission.toml", "backend": "local-backend/local"},
        {"mission_file": "mission.toml", "backend": {}},
        {"mission_file": None},
    ],
    ids=["a plain name", "an empty backend", "no file"],
)
def test_the_server_refuses_wrong_parameters(
    deployed: tuple[str, ...], parameters: dict[str, Any]
) -> None:
    with pytest.raises(PrefectHTTPStatusError) as refusal:
        cancel(create_run("mission/mission", parameters))
    assert refusal.value.response.status_code in {409, 422}


SERVE = """
import sys
from pathlib import Path
from deployments.serve import serve
serve(Path(sys.argv[1]), folder=Path(sys.argv[2]), announce=lambda line: print(line, flush=True))
"""

MISSION = """
name = "small"
objective = "two.txt is there"
[repository]
url = "target"
[verify]
command = "test -f one.txt"
[plan]
planner = "file"
file = "plan.toml"
[agents.default]
profile = "command"
argv = ["sh", "-c", "AGENT"]
[limits]
max_rounds = 1
"""

PLAN = """
[[unit]]
id = "two"
title = "Write two.txt"
prompt = "Write it."
writes = ["two.txt"]
"""


def write_mission(folder: Path, *, agent: str) -> None:
    (folder / "mission.toml").write_text(MISSION.replace("AGENT", agent))
    (folder / "plan.toml").write_text(PLAN)
    if (folder / "target").exists():
        return
    (folder / "target").mkdir()
    (folder / "target" / "one.txt").write_text("one")
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for argv in (
        ["init", "-q", "-b", "main", str(folder / "target")],
        ["-C", str(folder / "target"), "add", "."],
        [*identity, "-C", str(folder / "target"), "commit", "-q", "-m", "start"],
    ):
        subprocess.run(["git", *argv], check=True)


@pytest.fixture
def serving(tmp_path: Path, template_cache: Path) -> Iterator[subprocess.Popen[str]]:
    """`mission serve` in a process of its own; a test that leaves it running ends it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    changed = {"XDG_CACHE_HOME": str(template_cache), "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", SERVE, str(tmp_path / "home"), str(tmp_path)],
        env=kept | changed,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.terminate()
        process.communicate(timeout=60)


def said(process: subprocess.Popen[str], what: str) -> str:
    assert process.stdout is not None
    while line := process.stdout.readline():
        if what in line:
            return line
    raise AssertionError(f"it never said {what!r}")


def processes_with(mark: str) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            both = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
            if mark.encode() in both and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


@pytest.mark.needs_server
def test_a_run_executes_in_the_worker_and_sigterm_ends_everything(
    tmp_path: Path, serving: subprocess.Popen[str]
) -> None:
    write_mission(tmp_path, agent="echo two > two.txt")
    url = said(serving, "Prefect UI:").split()[-1] + "/api"
    said(serving, "Ctrl-C")

    with temporary_settings({PREFECT_API_URL: url}):
        run = create_run("mission/mission", {"backend": reference_to_local()})
        wait_until(lambda: is_final(run), timeout_seconds=90)
        assert reread(run).state_type == StateType.COMPLETED, reread(run).state
        wait_until(lambda: any(log.startswith("flows.") for log in logs_of(run)))

        write_mission(tmp_path, agent="sleep 613")
        create_run("mission/mission", {"backend": reference_to_local()})
        wait_until(lambda: processes_with("sleep\x00613"), timeout_seconds=90)
    serving.send_signal(signal.SIGTERM)
    serving.communicate(timeout=90)
    assert serving.returncode == 0
    assert processes_with("sleep\x00613") == []
    assert processes_with(str(tmp_path)) == []


def reference_to_local() -> dict[str, Any]:
    return {"$ref": {"block_document_slug": "local-backend/local"}}


def reread(run: FlowRun) -> FlowRun:
    with get_client(sync_client=True) as client:
        return client.read_flow_run(run.id)


def is_final(run: FlowRun) -> bool:
    state = reread(run).state
    return state is not None and state.is_final()


def logs_of(run: FlowRun) -> list[str]:
    mine = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id]))
    with get_client(sync_client=True) as client:
        return [f"{log.name}: {log.message}" for log in client.read_logs(mine, 200, 0)]
