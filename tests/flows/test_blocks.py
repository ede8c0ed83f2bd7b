"""The infrastructure blocks: what Prefect asks of every block, and what ours promise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.blocks.core import Block
from prefect.client.orchestration import get_client
from prefect.testing.standard_test_suites.blocks import BlockStandardTestSuite
from pydantic import ValidationError

import blocks
from blocks.places.backends import LocalBackend, SSHBackend, WorkerBackend, default_root
from blocks.places.local import LocalPlace
from blocks.places.ssh import SSHPlace
from deployments.bootstrap import block_classes, register_blocks
from deployments.server import ServerAddress


@pytest.mark.parametrize("block", sorted(block_classes(), key=str))
class TestEveryBlock(BlockStandardTestSuite):
    @pytest.fixture
    def block(self, request: pytest.FixtureRequest) -> type[Block]:
        found: type[Block] = request.param
        return found

    def test_has_a_valid_image(self, block: type[Block]) -> None:
        """Prefect's own suite downloads the picture; here there is no network."""
        assert str(block._logo_url).startswith("https://raw.githubusercontent.com/PrefectHQ/")

    def test_has_a_field_without_default(self, block: type[Block]) -> None:
        """Else the server refuses a correct reference to it (409)."""
        assert any(field.is_required() for field in block.model_fields.values())

    def test_has_a_stable_slug(self, block: type[Block]) -> None:
        assert block._block_type_slug == block.get_block_type_slug()


def test_both_backends_are_exported() -> None:
    assert {LocalBackend, SSHBackend} <= set(block_classes())
    assert set(blocks.__all__) <= set(dir(blocks))


def test_a_backend_without_places_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="abstract"):
        WorkerBackend(slots=1)  # type: ignore[abstract] # that is the point


def test_local_is_one_place_under_its_root(tmp_path: Path) -> None:
    (place,) = LocalBackend(slots=2, root=tmp_path / "there").places()
    assert isinstance(place, LocalPlace)
    assert place.root == str(tmp_path / "there")


def test_local_without_a_root_works_in_mission_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MISSION_HOME", str(tmp_path))
    (place,) = LocalBackend(slots=2).places()
    assert place.root == str(tmp_path / "places" / "local")


def test_the_default_root_is_where_the_missions_keep_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.home import home  # noqa: PLC0415 - for this comparison alone

    monkeypatch.delenv("MISSION_HOME", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_root() == home() / "places" / "local"


def test_checking_tells_what_was_found_in_each_place(tmp_path: Path) -> None:
    found = LocalBackend(slots=1, root=tmp_path).check()
    assert list(found) == ["local"]
    assert all(ok for _, ok, _ in found["local"]), found


def test_checking_a_host_that_nobody_answers_for_is_a_row_not_a_crash() -> None:
    backend = SSHBackend(hosts=["nobody@127.0.0.1:1"], connect_timeout_seconds=1)
    ((what, ok, _), *_) = backend.check()["127.0.0.1"]
    assert (what, ok) == ("connection", False)


@pytest.mark.parametrize(
    ("host", "name", "user", "port"),
    [
        ("build-1", "build-1", None, None),
        ("ci@build-1.example.org", "build-1.example.org", "ci", None),
        ("ci@10.0.0.7:2222", "10.0.0.7", "ci", 2222),
        ("[::1]:2222", "::1", None, 2222),
    ],
)
def test_a_host_may_name_user_and_port(
    host: str, name: str, user: str | None, port: int | None
) -> None:
    (place,) = SSHBackend(hosts=[host]).places()
    assert isinstance(place, SSHPlace)
    assert (place.name, place._user, place._port) == (name, user, port)


def test_hosts_are_places_in_their_order() -> None:
    assert [place.name for place in SSHBackend(hosts=["b", "a", "c"]).places()] == ["b", "a", "c"]


@pytest.mark.parametrize(
    "hosts",
    [[], [""], ["-oProxyCommand=x"], ["a b"], ["a;b"], ["a@-b"], ["a:port"], ["a", "b", "x@a"]],
)
def test_what_is_no_list_of_distinct_hosts_is_refused(hosts: list[str]) -> None:
    with pytest.raises(ValidationError):
        SSHBackend(hosts=hosts)


@pytest.mark.parametrize("slots", [0, -1])
def test_there_is_at_least_one_slot(slots: int) -> None:
    with pytest.raises(ValidationError):
        LocalBackend(slots=slots)


@pytest.mark.needs_server
def test_prefect_block_register_finds_every_block(prefect_address: ServerAddress) -> None:
    environment = os.environ | {"PREFECT_API_URL": prefect_address.api_url}
    argv = [sys.executable, "-m", "prefect", "block", "register", "-m", "blocks"]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for block in block_classes():
        assert str(block._block_type_name) in done.stdout


@pytest.mark.needs_server
def test_registering_twice_changes_nothing(prefect_client: ServerAddress) -> None:
    def types() -> set[tuple[str, object]]:
        with get_client(sync_client=True) as client:
            slugs = [block.get_block_type_slug() for block in block_classes()]
            return {(slug, client.read_block_type_by_slug(slug).updated) for slug in slugs}

    register_blocks()
    once = types()
    register_blocks()
    assert types() == once


@pytest.mark.needs_server
@pytest.mark.parametrize(
    "block",
    [
        LocalBackend(slots=3, lease_seconds=60, root=Path("/srv/agents")),
        SSHBackend(hosts=["ci@a:22", "b"], slots=2, root="/srv", config_file=Path("/etc/ssh/x")),
    ],
    ids=lambda block: block._block_type_slug,
)
def test_a_saved_block_loads_as_it_was(block: WorkerBackend, prefect_client: ServerAddress) -> None:
    name = f"kept-{uuid4().hex[:8]}"
    block.save(name)
    loaded = type(block).load(name)
    assert isinstance(loaded, type(block))
    assert loaded.model_dump(exclude={"block_type_slug"}) == block.model_dump(
        exclude={"block_type_slug"}
    )
