"""The disk that holds MISSION_HOME runs full while a mission runs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deployments.server import ServerAddress
from tests.missions import (
    Site,
    assert_promises,
    ended,
    held_by,
    ledger,
    make_site,
    mission,
    on_green,
    started,
    statuses,
    unit,
    wait_until,
    write,
    write_plan,
)

pytestmark = pytest.mark.needs_server

SIZE_BYTES = 16 * 2**20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={SIZE_BYTES},mode=700", "tmpfs", str(folder)]
    mounted = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Write until nothing fits any more."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (2**16, 1):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                continue
    assert os.statvfs(folder).f_bavail == 0
    return ballast


def test_a_full_disk_ends_the_mission_with_a_clear_line_and_it_goes_on_when_there_is_room(
    prefect_address: ServerAddress, tmp_path: Path, small_disk: Path
) -> None:
    site: Site = make_site(tmp_path / "site", api_url=prefect_address.api_url)
    site = replace(site, home=small_disk / "home")
    gate = site.notes / "open"
    script = f"echo x >> $NOTES/{{unit_id}}; {held_by(gate)}; {write('{unit_id}.txt')}"
    write_plan(
        site,
        unit("a", script),
        unit("b", script),
        unit("c", "cat a.txt > c.txt", depends_on=["a"]),
    )
    with started(site) as driver:
        wait_until(lambda: site.note("a") and site.note("b"))
        ballast = fill(small_disk)
        gate.touch()
        ran = ended(driver, timeout_seconds=60)
    assert ran.code == 3, ran.text
    assert "Traceback" not in ran.text
    (line,) = [line for line in ran.err.splitlines() if line.startswith("mission:")]
    assert "No space left on device" in line
    assert "free some space" in line
    assert_promises(site)
    ballast.unlink()
    ran = mission(site)
    assert ran.code == 0, ran.text
    assert_promises(site)
    assert statuses(ledger(site)) == {"a": "landed", "b": "landed", "c": "landed"}
    assert on_green(site, "c.txt") == "done"
