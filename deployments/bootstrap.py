"""Tell a Prefect server what this project brings: block types, work pool, deployments, a backend.

All of it may be done again at any time. What people change in the UI stays: stored blocks, the
work pool, and whether a schedule is active.

Deployments are applied through Prefect's Python interface instead of `prefect deploy`, for three
reasons: that runs again at every `mission serve` and would set schedules back each time; it gives
the working directory a pull step, which imports nothing here needs; and its last step, which counts
the workers of the pool, is refused by the server with some versions of fastapi.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped] # it has no type hints of its own
from prefect.blocks.core import Block
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.types.entrypoint import EntrypointType
from prefect.utilities.callables import parameter_schema
from prefect.workers.process import ProcessWorker
from pydantic import BaseModel, ConfigDict, Field, ValidationError

import blocks
from blocks.errors import SettingsInvalid
from blocks.places.backends import LocalBackend

PREFECT_FILE = Path(__file__).resolve().parent.parent / "prefect.yaml"
DEFAULT_BACKEND = "local"
DEFAULT_SLOTS = 4


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Schedule(_Strict):
    """A cron schedule of `prefect.yaml`; its slug is what it is known by."""

    slug: str
    cron: str
    timezone: str
    active: bool = True


class WorkPool(_Strict):
    """Where runs go, and what their jobs get."""

    name: str
    job_variables: dict[str, Any] = Field(default_factory=dict)


class Deployment(_Strict):
    """One deployment of `prefect.yaml`; the keys that Prefect knows and this project uses."""

    name: str
    entrypoint: str
    work_pool: WorkPool
    description: str | None = None
    tags: list[str] = Field(default_factory=list)
    parameters: dict[str, Any] = Field(default_factory=dict)
    concurrency_limit: ConcurrencyLimitConfig | None = None
    schedules: list[Schedule] = Field(default_factory=list)

    def load_flow(self) -> Flow[..., Any]:
        """Import the flow that the entrypoint names; only modules, never file paths."""
        if ":" in self.entrypoint:
            raise SettingsInvalid(
                f"{self.entrypoint}: name a module, such as flows.mission.mission"
            )
        return load_flow_from_entrypoint(self.entrypoint)


def bootstrap(folder: Path, *, prefect_file: Path = PREFECT_FILE) -> tuple[str, ...]:
    """Register, create and deploy what is missing or changed; return the deployments' full names.

    Runs work in `folder`: relative mission files are looked up there. The server is the one that
    Prefect's settings name.

    Raises:
        SettingsInvalid: `prefect_file` is missing, or has keys that would have no effect.
    """
    deployments = read_deployments(prefect_file)
    register_blocks()
    with get_client(sync_client=True) as client:
        _save_default_backend(client)
        for pool in {deployment.work_pool.name for deployment in deployments}:
            _create_work_pool(client, pool)
        return tuple(_deploy(client, deployment, folder) for deployment in deployments)


def read_deployments(prefect_file: Path = PREFECT_FILE) -> tuple[Deployment, ...]:
    """Read the deployments of a `prefect.yaml`, with its anchors resolved.

    Raises:
        SettingsInvalid: it cannot be read, or has keys that `bootstrap` does not know.
    """
    try:
        document = yaml.safe_load(prefect_file.read_text(encoding="utf-8"))
        return tuple(Deployment.model_validate(entry) for entry in document["deployments"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValidationError) as error:
        raise SettingsInvalid(f"{prefect_file}: {error}") from error


def block_classes() -> Iterator[type[Block]]:
    """Yield the block classes that `blocks` exports, as `prefect block register -m blocks` does."""
    for name in blocks.__all__:
        block_class = getattr(blocks, name)
        if Block.is_block_class(block_class):
            yield block_class


def register_blocks() -> None:
    """Make the block types known to the server; unchanged ones are left alone."""
    for block_class in block_classes():
        block_class.register_type_and_schema()


def _save_default_backend(client: SyncPrefectClient) -> None:
    slug = LocalBackend.get_block_type_slug()
    try:
        client.read_block_document_by_name(DEFAULT_BACKEND, slug)
    except ObjectNotFound:
        LocalBackend(slots=DEFAULT_SLOTS).save(DEFAULT_BACKEND)


def _create_work_pool(client: SyncPrefectClient, name: str) -> None:
    try:
        client.read_work_pool(name)
    except ObjectNotFound:
        client.create_work_pool(
            WorkPoolCreate(
                name=name,
                type=ProcessWorker.type,
                description="Missions, on the machine that holds their state.",
                base_job_template=ProcessWorker.get_default_base_job_template(),
            )
        )


def _deploy(client: SyncPrefectClient, deployment: Deployment, folder: Path) -> str:
    flow = deployment.load_flow()
    name = f"{flow.name}/{deployment.name}"
    version = _version(deployment, flow, folder)
    there = _read_deployment(client, name)
    if there is None or there.version != version:
        _apply(deployment, flow, folder=folder, version=version)
        if there is not None:
            _keep_active(client, name, {entry.slug: entry.active for entry in there.schedules})
    return name


def _version(deployment: Deployment, flow: Flow[..., Any], folder: Path) -> str:
    facts = {
        "deployment": deployment.model_dump(mode="json"),
        "parameters": parameter_schema(flow).model_dump(mode="json"),
        "folder": str(folder),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def _read_deployment(client: SyncPrefectClient, name: str) -> DeploymentResponse | None:
    try:
        return client.read_deployment_by_name(name)
    except ObjectNotFound:
        return None


def _apply(deployment: Deployment, flow: Flow[..., Any], *, folder: Path, version: str) -> None:
    schedules = [
        DeploymentScheduleCreate(
            schedule=CronSchedule(cron=entry.cron, timezone=entry.timezone),
            active=entry.active,
            slug=entry.slug,
        )
        for entry in deployment.schedules
    ]
    RunnerDeployment.from_flow(
        flow,
        name=deployment.name,
        description=deployment.description,
        tags=deployment.tags,
        version=version,
        parameters=deployment.parameters,
        concurrency_limit=deployment.concurrency_limit,
        schedules=schedules,
        work_pool_name=deployment.work_pool.name,
        job_variables=deployment.work_pool.job_variables | {"working_dir": str(folder)},
        entrypoint_type=EntrypointType.MODULE_PATH,
    ).apply()


def _keep_active(client: SyncPrefectClient, name: str, active: Mapping[str | None, bool]) -> None:
    """Applying makes schedules anew: give them back what people chose in the UI."""
    deployment = client.read_deployment_by_name(name)
    for schedule in deployment.schedules:
        wanted = active.get(schedule.slug, schedule.active)
        if wanted != schedule.active:
            client.update_deployment_schedule(deployment.id, schedule.id, active=wanted)
