"""The guard that sees what a test leaves behind sees it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.leaks import children, end, jobs_below, left_behind


@pytest.mark.parametrize("where", ["environment", "command line", "folder"])
def test_a_job_is_found_by_its_token_and_the_folder_it_has_to_do_with(
    tmp_path: Path, where: str
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    command = ["cat", str(pipe)] if where == "command line" else ["cat"]
    environment = {"MISSION_TOKEN": "a"}
    if where == "environment":
        environment["HOME"] = str(tmp_path)
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        env={"PATH": os.environ["PATH"], **environment},
        cwd=tmp_path if where == "folder" else "/",
    ) as job:
        assert [*jobs_below(tmp_path)] == [job.pid]
        assert not jobs_below(tmp_path / "other")
        job.kill()
    assert not jobs_below(tmp_path)


def test_a_child_is_found_unless_it_was_there_before(tmp_path: Path) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        assert child.pid in children()
        assert left_behind(tmp_path, children()) == {}
        assert [*left_behind(tmp_path, children() - {child.pid})] == [child.pid]
        end([child.pid])
