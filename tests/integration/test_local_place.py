from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from blocks.errors import CommandFailed
from blocks.places import supervise
from blocks.places.local import LocalPlace
from blocks.places.place import Ending, Job, JobResult, Place
from tests.sshd import wait_until

MakeJob = Callable[..., Job]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[LocalPlace]:
    place = LocalPlace(tmp_path / "state")
    yield place
    for directory in (tmp_path / "state" / "jobs").glob("*"):
        place.kill(str(directory))
        if (directory / "pid").exists():
            place.wait(str(directory), timeout_seconds=20)
    place.close()


@pytest.fixture
def make_job(place: LocalPlace, tmp_path: Path) -> MakeJob:
    def make(script: str, *, name: str = "job", **changes: object) -> Job:
        fields: dict[str, object] = {
            "directory": f"{place.root}/jobs/{name}",
            "argv": ("sh", "-c", script),
            "cwd": str(tmp_path),
            "env": {"PATH": os.environ["PATH"]},
            "timeout_seconds": 30.0,
        }
        return Job(**(fields | changes))  # type: ignore[arg-type]  # checked by running

    return make


def run(place: Place, job: Job) -> JobResult:
    place.start(job)
    result = place.wait(job.directory, timeout_seconds=30)
    assert result is not None
    return result


def read_pid(path: Path) -> int:
    """Wait for a process to write its pid."""
    wait_until(lambda: path.exists() and path.read_text().endswith("\n"))
    return int(path.read_text())


def is_gone(pid: int) -> bool:
    fields = supervise.process_stat(pid)
    return not fields or fields[0] == b"Z"


def test_a_local_place_is_a_place(place: LocalPlace) -> None:
    assert isinstance(place, Place)


def test_the_exit_code_is_the_commands(place: LocalPlace, make_job: MakeJob) -> None:
    result = run(place, make_job("echo out; echo err >&2; exit 3"))
    assert (result.ending, result.exit_code, result.signal) == (Ending.EXITED, 3, None)
    assert place.tail(f"{place.root}/jobs/job") == b"out\nerr\n"
    assert result.output_bytes == 8
    assert abs(result.ended_at - time.time()) < 30


def test_a_command_that_dies_of_a_signal_says_so(place: LocalPlace, make_job: MakeJob) -> None:
    result = run(place, make_job("kill -SEGV $$"))
    assert (result.ending, result.exit_code, result.signal) == (Ending.EXITED, None, 11)


def test_time_and_memory_of_all_that_ran_are_counted(place: LocalPlace, make_job: MakeJob) -> None:
    burn = "import time; x = bytearray(60_000_000)\nwhile time.process_time() < 0.2: pass"
    argv = ("sh", "-c", f"setsid '{sys.executable}' -S -c '{burn}' & wait; exit 0")
    result = run(place, make_job("", argv=argv))
    assert 0.2 <= result.cpu_seconds < 5
    assert 60e6 < result.peak_memory_bytes < 200e6
    assert 0.2 <= result.wall_seconds < 20


def test_an_orphan_counts_too(place: LocalPlace, make_job: MakeJob, tmp_path: Path) -> None:
    burn = "import time\nwhile time.process_time() < 0.2: pass\nopen('done', 'w')"
    script = f"(setsid '{sys.executable}' -S -c \"{burn}\" &); while ! test -e done; do :; done"
    assert run(place, make_job(script)).cpu_seconds >= 0.2


def test_input_is_fed_and_then_closed(place: LocalPlace, make_job: MakeJob) -> None:
    prompt = b"a prompt\n" * 100_000
    run(place, make_job("cat | wc -c; read more || echo closed", stdin=prompt))
    assert place.tail(f"{place.root}/jobs/job").split() == [b"900000", b"closed"]


def test_without_input_a_question_fails_fast(place: LocalPlace, make_job: MakeJob) -> None:
    assert run(place, make_job("read answer")).exit_code == 1


def test_the_environment_is_what_was_given(place: LocalPlace, make_job: MakeJob) -> None:
    env = {"PATH": os.environ["PATH"], "EMPTY": "", "LINES": "a\nb=c", "MISSION_TOKEN": "x"}
    run(place, make_job("", argv=("env", "-0"), env=env))
    rows = place.tail(f"{place.root}/jobs/job").decode().strip("\0").split("\0")
    seen = dict(row.split("=", 1) for row in rows)
    assert len(seen.pop("MISSION_TOKEN")) == 32
    env.pop("MISSION_TOKEN")
    assert seen == env


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: reads /proc")
def test_a_command_starts_with_a_clean_slate(place: LocalPlace, make_job: MakeJob) -> None:
    # No shell: it would clear what is blocked itself.
    grep = ("grep", "-E", "SigIgn|SigBlk", "/proc/self/status")
    ours = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(ours, True)
    old = signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        run(place, make_job("", argv=("ls", "-l", "/proc/self/fd"), name="files"))
        run(place, make_job("", argv=grep, name="signals"))
    finally:
        signal.signal(signal.SIGINT, old)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        os.close(ours)
    files = place.tail(f"{place.root}/jobs/files").decode()
    assert files.count(" -> ") == 4, files  # 0, 1, 2 and the folder that ls reads
    text = place.tail(f"{place.root}/jobs/signals").decode()
    assert text.split("SigBlk:")[1].split()[0].strip("0") == ""
    ignored = int(text.split("SigIgn:")[1].split()[0], 16)
    assert ignored & 0x7FFFFFFF == 0  # above it are two that the C library keeps for itself


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"argv": ("no-such-command", "x")}, "no-such-command: No such file or directory"),
        ({"argv": ("/no/such/command",)}, "/no/such/command: No such file or directory"),
        ({"argv": ("/etc/passwd",)}, "/etc/passwd: Permission denied"),
        ({"cwd": "/no/such/folder"}, "/no/such/folder: No such file or directory"),
        ({"env": {"PATH": "/no/such/folder"}}, "sh: No such file or directory"),
    ],
)
def test_what_cannot_start_says_why(
    place: LocalPlace, make_job: MakeJob, changes: dict[str, object], detail: str
) -> None:
    result = run(place, make_job("true", **changes))
    assert (result.ending, result.exit_code, result.signal) == (Ending.NOT_STARTED, None, None)
    assert result.detail == detail


def test_a_relative_command_is_found_in_the_working_directory(
    place: LocalPlace, make_job: MakeJob, tmp_path: Path
) -> None:
    (tmp_path / "tool").write_text("#!/bin/sh\nexit 7\n")
    (tmp_path / "tool").chmod(0o755)
    assert run(place, make_job("", argv=("./tool",))).exit_code == 7


def test_the_time_out_ends_a_grandchild_that_left_and_holds_the_output(
    place: LocalPlace, make_job: MakeJob, tmp_path: Path
) -> None:
    script = "setsid sh -c 'echo $$ > grandchild; exec sleep 1000' & sleep 1000"
    result = run(place, make_job(script, timeout_seconds=0.5))
    assert result.ending is Ending.TIMED_OUT
    assert result.signal == signal.SIGTERM
    assert 0.5 <= result.wall_seconds < 5
    assert is_gone(read_pid(tmp_path / "grandchild"))


def test_what_outlives_the_command_is_ended_and_delays_nothing(
    place: LocalPlace, make_job: MakeJob, tmp_path: Path
) -> None:
    script = "(setsid sh -c 'echo $$ > left; exec sleep 1000' &); until test -s left; do :; done"
    result = run(place, make_job(script + "; exit 5"))
    assert (result.ending, result.exit_code) == (Ending.EXITED, 5)
    assert time.time() - result.ended_at < 5
    assert is_gone(read_pid(tmp_path / "left"))


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: adopts orphans")
def test_a_child_that_also_dropped_its_environment_is_ended(
    place: LocalPlace, make_job: MakeJob, tmp_path: Path
) -> None:
    inner = 'exec env -i setsid sh -c "echo \\$\\$ > left; exec sleep 1000"'
    script = f"(sh -c '{inner}' &); until test -s left; do :; done"
    assert run(place, make_job(script)).exit_code == 0
    assert is_gone(read_pid(tmp_path / "left"))


def test_what_ignores_the_request_is_killed(
    place: LocalPlace, make_job: MakeJob, tmp_path: Path
) -> None:
    script = "trap '' TERM; echo $$ > stubborn; while :; do sleep 0.05; done"
    job = make_job(script)
    place.start(job)
    pid = read_pid(tmp_path / "stubborn")
    place.kill(job.directory)
    result = place.wait(job.directory, timeout_seconds=20)
    assert result is not None
    assert (result.ending, result.signal) == (Ending.KILLED, signal.SIGKILL)
    assert is_gone(pid)


def test_a_job_is_killed_on_request(place: LocalPlace, make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job("echo $$ > agent; exec sleep 1000")
    place.start(job)
    pid = read_pid(tmp_path / "agent")
    assert place.wait(job.directory, timeout_seconds=0.01) is None
    place.kill(job.directory)
    place.kill(job.directory)
    result = place.wait(job.directory, timeout_seconds=20)
    assert result is not None
    assert (result.ending, result.signal) == (Ending.KILLED, signal.SIGTERM)
    assert is_gone(pid)
    place.kill(job.directory)
    assert place.wait(job.directory) == result


def test_a_kill_before_the_start_wins(place: LocalPlace, make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job("touch ran")
    Path(job.directory).mkdir(parents=True)
    place.kill(job.directory)
    assert run(place, job).ending is Ending.KILLED
    assert not (tmp_path / "ran").exists()


def test_killing_what_never_was_is_fine(place: LocalPlace) -> None:
    place.kill(f"{place.root}/jobs/never")


def test_waiting_for_what_never_was_is_an_error(place: LocalPlace) -> None:
    with pytest.raises(FileNotFoundError):
        place.wait(f"{place.root}/jobs/never")


@pytest.mark.parametrize("does_wait_first", [True, False])
def test_a_killed_supervisor_means_lost_and_nothing_left(
    place: LocalPlace, make_job: MakeJob, tmp_path: Path, does_wait_first: bool
) -> None:
    job = make_job("setsid sh -c 'echo $$ > child; exec sleep 1000' & echo $$ > agent; sleep 1000")
    place.start(job)
    pids = [read_pid(tmp_path / "agent"), read_pid(tmp_path / "child")]
    results: list[JobResult | None] = []
    waiter = threading.Thread(target=lambda: results.append(place.wait(job.directory)))
    if does_wait_first:
        waiter.start()
    os.kill(supervise.find_watcher(job.directory).pid, signal.SIGKILL)
    if not does_wait_first:
        waiter.start()
    waiter.join(20)
    assert [result and result.ending for result in results] == [Ending.LOST]
    assert all(is_gone(pid) for pid in pids)
    assert place.wait(job.directory) == results[0]


def test_killing_a_job_without_supervisor_sweeps(
    place: LocalPlace, make_job: MakeJob, tmp_path: Path
) -> None:
    job = make_job("setsid sh -c 'echo $$ > child; exec sleep 1000' & sleep 1000")
    place.start(job)
    pid = read_pid(tmp_path / "child")
    supervisor = supervise.find_watcher(job.directory).pid
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: is_gone(supervisor))
    place.kill(job.directory)
    assert is_gone(pid)
    result = place.wait(job.directory)
    assert result is not None
    assert result.ending is Ending.LOST


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: parent death signal")
def test_an_agent_never_runs_without_its_supervisor(
    place: LocalPlace, make_job: MakeJob, tmp_path: Path
) -> None:
    job = make_job("echo $$ > agent; exec sleep 1000")
    place.start(job)
    pid = read_pid(tmp_path / "agent")
    os.kill(supervise.find_watcher(job.directory).pid, signal.SIGKILL)
    wait_until(lambda: is_gone(pid))


STARTER = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from blocks.places.local import LocalPlace
from blocks.places.place import Job
place = LocalPlace(sys.argv[2])
script = "until test -e go; do sleep 0.01; done; echo went on; exit 6"
place.start(Job(directory=place.root + "/jobs/job", argv=("sh", "-c", script), cwd=sys.argv[3],
                env={"PATH": os.environ["PATH"]}, timeout_seconds=30))
os.kill(int(sys.argv[4]) and -os.getpgid(0), int(sys.argv[5]))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGHUP])
def test_a_job_outlives_its_starter_and_all_of_its_terminal(
    place: LocalPlace, tmp_path: Path, number: signal.Signals
) -> None:
    argv = [sys.executable, "-c", STARTER, str(ROOT), place.root, str(tmp_path), "1", str(+number)]
    starter = subprocess.run(argv, check=False, start_new_session=True, stderr=subprocess.DEVNULL)
    assert starter.returncode == -number
    (tmp_path / "go").touch()
    result = place.wait(f"{place.root}/jobs/job", timeout_seconds=20)
    assert result is not None
    assert (result.ending, result.exit_code) == (Ending.EXITED, 6)
    assert place.tail(f"{place.root}/jobs/job") == b"went on\n"


def test_a_lease_that_nobody_renews_ends_the_job(
    place: LocalPlace, make_job: MakeJob, tmp_path: Path
) -> None:
    lease = f"{place.root}/lease"
    place.renew(lease)
    result = run(place, make_job("sleep 1000", lease=lease, lease_seconds=0.4))
    assert result.ending is Ending.LEASE_EXPIRED
    assert 0.4 <= result.wall_seconds < 5


def test_a_lease_that_is_renewed_does_not(
    place: LocalPlace, make_job: MakeJob, tmp_path: Path
) -> None:
    lease = f"{place.root}/lease"
    job = make_job("until test -e go; do sleep 0.01; done", lease=lease, lease_seconds=1.0)
    place.start(job)
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        place.renew(lease)
        assert place.wait(job.directory, timeout_seconds=0.1) is None
    (tmp_path / "go").touch()
    result = place.wait(job.directory, timeout_seconds=20)
    assert result is not None
    assert result.ending is Ending.EXITED


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: reads /proc")
def test_much_output_costs_neither_memory_nor_disk_nor_time(
    place: LocalPlace, make_job: MakeJob, tmp_path: Path
) -> None:
    script = "head -c 300000000 /dev/zero; echo end; cat /proc/$PPID/status > supervisor"
    result = run(place, make_job(script, log_limit_bytes=8 * 2**20))
    assert result.output_bytes == 300_000_004
    files = Path(place.root, "jobs", "job").iterdir()
    assert sum(path.stat().st_blocks * 512 for path in files) < 9 * 2**20
    assert place.tail(f"{place.root}/jobs/job", 6) == b"\0\0end\n"
    status = (tmp_path / "supervisor").read_text()
    assert int(status.split("VmHWM:")[1].split()[0]) < 32 * 1024  # KiB
    assert result.wall_seconds < 10


def test_starting_twice_runs_once(place: LocalPlace, make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job("echo ran >> ran; until test -e go; do sleep 0.01; done")
    threads = [threading.Thread(target=place.start, args=(job,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    place.start(job)
    (tmp_path / "go").touch()
    run(place, job)
    LocalPlace(place.root).start(job)
    assert (tmp_path / "ran").read_text() == "ran\n"


def test_jobs_run_side_by_side(place: LocalPlace, make_job: MakeJob, tmp_path: Path) -> None:
    # Each waits for all others, so they only end when all run at once.
    script = "touch here.$0; until test $(ls here.* | wc -l) = 8; do sleep 0.02; done; exit $0"
    jobs = [make_job("", argv=("sh", "-c", script, str(i)), name=str(i)) for i in range(8)]
    for job in jobs:
        place.start(job)
    results = [place.wait(job.directory, timeout_seconds=30) for job in jobs]
    assert [result and result.exit_code for result in results] == list(range(8))


def test_secrets_do_not_stay_on_disk(place: LocalPlace, make_job: MakeJob) -> None:
    run(place, make_job("true", env={"PATH": os.environ["PATH"], "KEY": "s3cret"}))
    directory = Path(place.root, "jobs", "job")
    assert directory.stat().st_mode & 0o077 == 0
    for path in directory.iterdir():
        assert b"s3cret" not in path.read_bytes()
        assert path.stat().st_mode & 0o077 == 0


def test_no_supervisor_stays_behind_as_a_zombie(place: LocalPlace, make_job: MakeJob) -> None:
    pids = []
    for i in range(3):
        job = make_job("true", name=str(i))
        run(place, job)
        pids.append(supervise.find_watcher(job.directory).pid)
    place.close()
    assert [supervise.process_stat(pid) for pid in pids] == [[], [], []]


def test_a_supervisor_that_cannot_work_is_an_error(
    place: LocalPlace, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(CommandFailed, match="No such file"):
        place.start(make_job("true"))


def test_commands_and_files(place: LocalPlace, tmp_path: Path) -> None:
    assert place.run(["cat"], stdin=b"x").stdout == b"x"
    assert place.run(["sh", "-c", "exit 4"], check=False).code == 4
    with pytest.raises(CommandFailed):
        place.run(["sleep", "60"], timeout_seconds=0.05)
    path = f"{place.root}/a/b"
    with pytest.raises(FileNotFoundError):
        place.read(path)
    place.write(path, b"data")
    assert place.read(path) == b"data"
    place.remove(f"{place.root}/a")
    assert not Path(path).exists()
    with pytest.raises(ValueError, match="is not below"):
        place.remove(str(tmp_path))


def test_this_machine_has_what_is_needed(place: LocalPlace) -> None:
    assert [row for row in place.check() if not row[1]] == []
    assert place.git_url("/a b") == "/a b"
    assert place.git_environment == {}
