from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks.places import supervise
from blocks.places.place import Ending, Job, JobResult, judge_survey, pack

NAMES = st.text(st.characters(exclude_characters="=\0", exclude_categories=["Cs"]), min_size=1)
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(
    argv=st.lists(TEXTS, max_size=4),
    env=st.dictionaries(NAMES, TEXTS, max_size=4),
    seconds=st.floats(0, 1e6),
)
def test_the_supervisor_reads_what_a_job_packs(
    argv: list[str], env: dict[str, str], seconds: float
) -> None:
    job = Job(
        directory="/d", argv=("tool", *argv), cwd="/w", env=env, timeout_seconds=seconds, lease="/l"
    )
    spec = supervise.Spec(job.pack())
    assert [os.fsdecode(part) for part in spec.argv] == ["tool", *argv]
    assert {os.fsdecode(k): os.fsdecode(v) for k, v in spec.environment.items()} == env
    assert (spec.cwd, spec.timeout, spec.lease) == (b"/w", seconds, "/l")
    assert (spec.lease_seconds, spec.log_limit) == (120.0, 64 * 2**20)


@pytest.mark.parametrize(
    ("argv", "env", "directory"),
    [
        ((), {}, "/d"),
        (("",), {}, "/d"),
        (("a\0b",), {}, "/d"),
        (("a",), {"A": "x\0y"}, "/d"),
        (("a",), {"A=B": "x"}, "/d"),
        (("a",), {"": "x"}, "/d"),
        (("a",), {}, "relative"),
    ],
)
def test_a_job_that_cannot_be_described_is_refused(
    argv: tuple[str, ...], env: dict[str, str], directory: str
) -> None:
    with pytest.raises(ValueError, match=r"."):
        Job(directory=directory, argv=argv, cwd="/", env=env, timeout_seconds=1).pack()


@given(st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"])))
def test_any_detail_survives_the_hand_made_json(detail: str) -> None:
    result = JobResult.parse(supervise.result_text("lost", detail=detail))
    assert (result.ending, result.detail) == (Ending.LOST, detail)


def test_a_result_tells_exit_codes_from_signals() -> None:
    assert json.loads(supervise.result_text("exited", status=3 << 8))["exit_code"] == 3
    assert json.loads(supervise.result_text("exited", status=3 << 8))["signal"] is None
    assert json.loads(supervise.result_text("exited", status=9))["signal"] == 9
    assert json.loads(supervise.result_text("exited", status=9))["exit_code"] is None


def test_every_ending_has_the_supervisors_name() -> None:
    names = {
        supervise.EXITED,
        supervise.TIMED_OUT,
        supervise.LEASE_EXPIRED,
        supervise.KILLED,
        supervise.NOT_STARTED,
        supervise.LOST,
    }
    assert {str(ending) for ending in Ending} == names


def log_of(folder: Path, limit: int, pieces: list[bytes]) -> tuple[bytes, list[bytes]]:
    """Send pieces through an output; return the log and the tails seen on the way."""
    output = supervise.Output(str(folder), limit)
    seen = []
    for piece in pieces:
        os.write(output.sink, piece)
        assert output.read()
        seen.append(supervise.tail(str(folder), 8))
    os.close(output.sink)
    assert not output.read()
    output.finish()
    return (folder / "output.log").read_bytes(), seen


@pytest.mark.parametrize("limit", [0, 1, 2, 10, 33, 64, 1000])
@pytest.mark.parametrize("size", [1, 3, 7, 40])
def test_a_log_keeps_head_and_tail_of_the_output(tmp_path: Path, limit: int, size: int) -> None:
    everything = bytes(65 + i % 26 for i in range(200))
    pieces = [everything[i : i + size] for i in range(0, len(everything), size)]
    log, _ = log_of(tmp_path, limit, pieces)
    head, _, end = log.partition(b"\n[... ")
    if limit >= 200:
        assert log == everything
        return
    n_dropped, _, tail = end.partition(b" bytes of output dropped ...]\n")
    assert everything.startswith(head)
    assert everything.endswith(tail)
    assert len(head) + int(n_dropped) + len(tail) == 200
    assert len(head) + len(tail) == max(limit, 1)
    assert not (tmp_path / "output.tail").exists()


def test_the_tail_can_be_read_while_the_job_runs(tmp_path: Path) -> None:
    everything = bytes(65 + i % 26 for i in range(100))
    _, seen = log_of(tmp_path, 20, [everything[i : i + 3] for i in range(0, 100, 3)])
    ends = [min(i + 3, 100) for i in range(0, 100, 3)]
    assert seen == [everything[max(end - 8, 0) : end] for end in ends]


def test_the_tail_of_nothing_is_empty(tmp_path: Path) -> None:
    assert supervise.tail(str(tmp_path), 10) == b""


def test_descendants_are_found_over_generations() -> None:
    parents = {5: 4, 4: 3, 3: 1, 7: 1, 2: 3}
    assert supervise._descendants(parents, 3) == {4, 5, 2}
    assert supervise._descendants(parents, 9) == set()


def test_a_recycled_pid_is_not_the_process_that_had_it() -> None:
    me = os.getpid()
    assert supervise.is_running(me, supervise.start_time(me))
    assert not supervise.is_running(me, "1")


def test_a_lease_expires_when_its_content_stays_the_same(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    supervise.renew(str(path))
    lease = supervise.Lease(str(path), 100.0)
    began = lease.next_look - 5.0
    assert not lease.is_expired(began + 99)
    supervise.renew(str(path))
    assert not lease.is_expired(began + 105)
    assert not lease.is_expired(began + 204)
    assert lease.is_expired(began + 206)


def test_without_a_lease_nothing_expires() -> None:
    assert not supervise.Lease("", 0.0).is_expired(float("inf"))


def test_renewing_counts(tmp_path: Path) -> None:
    for _ in range(3):
        supervise.renew(str(tmp_path / "missions" / "lease"))
    assert (tmp_path / "missions" / "lease").read_text() == "3\n"


def test_writing_leaves_no_temporary_files(tmp_path: Path) -> None:
    supervise.write_file(str(tmp_path / "a" / "file"), b"1", mode=0o755)
    supervise.write_file(str(tmp_path / "a" / "file"), b"2", mode=0o640)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]
    assert (tmp_path / "a" / "file").read_bytes() == b"2"
    assert (tmp_path / "a" / "file").stat().st_mode & 0o777 == 0o640


def test_removing_stays_below_the_root(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "a" / "b").mkdir(parents=True)
    outside.mkdir()
    (outside / "precious").touch()
    (root / "link").symlink_to(outside)
    bad = (root, outside, root / ".." / "outside", root / "link" / "precious", root / "a" / "..")
    for path in bad:
        with pytest.raises(ValueError, match="is not below"):
            supervise.remove(str(root), str(path))
    supervise.remove(str(root), str(root / "link"))
    supervise.remove(str(root), str(root / "a"))
    supervise.remove(str(root), str(root / "a"))
    assert list(root.iterdir()) == []
    assert (outside / "precious").exists()


def test_a_survey_becomes_rows_that_say_what_is_missing() -> None:
    good = {
        "python": "3.8.2",
        "git": "git version 2.39.5 (Apple Git-154)",
        "root": "",
        "free_bytes": str(2**34),
        "time": "1000.0",
    }
    assert all(is_good for _, is_good, _ in judge_survey(good, now=1001.0))
    bad = {"python": "3.7.1", "git": "", "root": "Read-only", "free_bytes": "", "time": "0"}
    assert not any(is_good for _, is_good, _ in judge_survey(bad, now=1001.0))


def test_the_supervisor_imports_nothing_slow() -> None:
    code = f"{supervise.LAUNCH.split('; supervise.main')[0]}; print(*sys.modules)"
    folder = str(Path(supervise.__file__).parent)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, folder], capture_output=True, check=True
    )
    loaded = set(done.stdout.decode().split())
    assert "supervise" in loaded
    assert not loaded & {"signal", "subprocess", "json", "re", "enum", "pathlib", "typing"}


def test_fields_are_joined_by_nul() -> None:
    assert pack("a", "", "ü") == "a\0\0ü".encode()
