from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from blocks.errors import BackendUnreachable, CommandFailed
from blocks.places import supervise
from blocks.places.place import Ending, Job, JobResult, Place
from blocks.places.ssh import SSHPlace
from tests.sshd import HOST, SKIP_REASON, Sshd, find_sshd, running_sshd, wait_until

pytestmark = [
    pytest.mark.needs_sshd,
    pytest.mark.skipif(find_sshd() is None, reason=SKIP_REASON),
]

MakeJob = Callable[..., Job]
UNTIL_GO = "until test -e go; do sleep 0.01; done"


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with running_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def place(sshd: Sshd, tmp_path: Path) -> Iterator[SSHPlace]:
    place = SSHPlace(HOST, str(tmp_path / "state"), config=sshd.config)
    yield place
    for directory in (tmp_path / "state" / "jobs").glob("*"):
        supervise.request_kill(str(directory))
        wait_until((directory / "result.json").exists, seconds=20)
    place.close()


@pytest.fixture
def make_job(place: SSHPlace, tmp_path: Path) -> MakeJob:
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


def drop_connections(sshd: Sshd) -> None:
    pids = sshd.connection_pids()
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not set(pids) & set(sshd.connection_pids()))


def is_gone(pid: int) -> bool:
    fields = supervise.process_stat(pid)
    return not fields or fields[0] == b"Z"


def test_an_ssh_place_is_a_place(place: SSHPlace) -> None:
    assert isinstance(place, Place)
    assert place.name == HOST


def test_the_default_root_is_the_users_state_folder(sshd: Sshd) -> None:
    place = SSHPlace(HOST, config=sshd.config)
    assert place.root == f"{sshd.state}/mission"
    place.close()


def test_a_command_comes_back_whole(place: SSHPlace) -> None:
    noise = bytes(range(256)) * 20_000  # 5 MB: more than any window or pipe holds
    done = place.run(["sh", "-c", "tee /dev/stderr; exit 3"], stdin=noise, check=False)
    assert (done.code, done.stdout, done.stderr) == (3, noise, noise)


def test_a_signal_is_a_negative_code(place: SSHPlace) -> None:
    assert place.run(["sh", "-c", "kill -9 $$"], check=False).code == -9


def test_arguments_and_environment_need_no_quoting(place: SSHPlace, tmp_path: Path) -> None:
    odd = "a b'c\"d$HOME`e`\n*;ü"
    folder = tmp_path / odd.replace("\n", "")
    folder.mkdir()
    env = {"ODD": odd, "PATH": os.environ["PATH"]}
    done = place.run(["printf", "%s", odd], env=env, cwd=str(folder))
    assert done.stdout.decode() == odd
    assert place.run(["env", "-0"], env={"ODD": odd}).stdout.decode() == f"ODD={odd}\0"
    assert place.run(["pwd"], cwd=str(folder)).text == str(folder)


@pytest.mark.parametrize(
    ("argv", "cwd", "message"),
    [
        (["no-such-command"], None, "no-such-command: No such file"),
        (["true"], "/no/such/folder", "/no/such/folder: No such file"),
        (["sh", "-c", "echo why >&2; exit 4"], None, r"exit code 4(.|\n)*why"),
    ],
)
def test_a_command_that_fails_is_an_error_with_its_reason(
    place: SSHPlace, argv: list[str], cwd: str | None, message: str
) -> None:
    with pytest.raises(CommandFailed, match=message):
        place.run(argv, cwd=cwd)


def test_a_command_that_takes_too_long_is_killed_there(place: SSHPlace, tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"no end after 0\.3 s"):
        place.run(["sh", "-c", "echo $$ > pid; sleep 1000"], cwd=str(tmp_path), timeout_seconds=0.3)
    wait_until(lambda: is_gone(int((tmp_path / "pid").read_text())))


def test_a_command_whose_connection_drops_is_killed_and_not_repeated(
    place: SSHPlace, sshd: Sshd, tmp_path: Path
) -> None:
    errors: list[Exception] = []

    def call() -> None:
        try:
            place.run(["sh", "-c", "echo $$ >> pids; sleep 1000"], cwd=str(tmp_path))
        except BackendUnreachable as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    pids = tmp_path / "pids"
    wait_until(lambda: pids.exists() and pids.read_text().endswith("\n"))
    drop_connections(sshd)
    thread.join(20)
    assert len(errors) == 1
    wait_until(lambda: is_gone(int(pids.read_text())))
    assert place.run(["echo", "again"]).text == "again"


def test_files(place: SSHPlace, tmp_path: Path) -> None:
    path = f"{place.root}/a/it's a file"
    with pytest.raises(FileNotFoundError):
        place.read(path)
    data = bytes(range(256)) * 5000
    place.write(path, data, mode=0o640)
    place.write(path, data + b"2", mode=0o640)
    assert place.read(path) == data + b"2"
    assert Path(path).stat().st_mode & 0o777 == 0o640
    place.renew(f"{place.root}/lease")
    place.renew(f"{place.root}/lease")
    assert place.read(f"{place.root}/lease") == b"2\n"
    place.remove(f"{place.root}/a")
    assert not Path(path).exists()
    with pytest.raises(ValueError, match="is not below"):
        place.remove(str(tmp_path))


def test_a_job_runs_there_and_tells_how_it_ended(place: SSHPlace, make_job: MakeJob) -> None:
    job = make_job("cat; echo err >&2; exit 3", stdin=b"prompt\n", env={"PATH": "/usr/bin:/bin"})
    result = run(place, job)
    assert (result.ending, result.exit_code, result.output_bytes) == (Ending.EXITED, 3, 11)
    assert place.tail(job.directory) == b"prompt\nerr\n"
    assert place.wait(job.directory) == result


def test_what_cannot_start_says_why(place: SSHPlace, make_job: MakeJob) -> None:
    result = run(place, make_job("", argv=("no-such-command",)))
    assert (result.ending, result.detail) == (
        Ending.NOT_STARTED,
        "no-such-command: No such file or directory",
    )


def test_the_environment_is_what_was_given(place: SSHPlace, make_job: MakeJob) -> None:
    job = make_job("", argv=("/usr/bin/env",), env={"A": "1"})
    run(place, job)
    rows = place.tail(job.directory).decode().split()
    assert [row for row in rows if not row.startswith("MISSION_TOKEN=")] == ["A=1"]


def test_a_job_is_killed_on_request(place: SSHPlace, make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job("setsid sh -c 'echo $$ > pid; sleep 1000' & sleep 1000")
    place.start(job)
    pid = tmp_path / "pid"
    wait_until(lambda: pid.exists() and pid.read_text().endswith("\n"))
    assert place.wait(job.directory, timeout_seconds=0.01) is None
    place.kill(job.directory)
    place.kill(job.directory)
    result = place.wait(job.directory, timeout_seconds=20)
    assert result is not None
    assert result.ending is Ending.KILLED
    assert is_gone(int(pid.read_text()))


def test_a_killed_supervisor_means_lost_and_nothing_left(
    place: SSHPlace, make_job: MakeJob, tmp_path: Path
) -> None:
    job = make_job("setsid sh -c 'echo $$ > pid; sleep 1000' & sleep 1000")
    place.start(job)
    pid = tmp_path / "pid"
    wait_until(lambda: pid.exists() and pid.read_text().endswith("\n"))
    os.kill(supervise.find_watcher(job.directory).pid, signal.SIGKILL)
    result = place.wait(job.directory, timeout_seconds=20)
    assert result is not None
    assert result.ending is Ending.LOST
    assert is_gone(int(pid.read_text()))


def test_starting_twice_runs_once(place: SSHPlace, make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job(f"echo ran >> ran; {UNTIL_GO}")
    place.start(job)
    place.start(job)
    (tmp_path / "go").touch()
    run(place, job)
    assert (tmp_path / "ran").read_text() == "ran\n"


def test_waiting_for_what_never_was_is_an_error(place: SSHPlace) -> None:
    with pytest.raises(FileNotFoundError):
        place.wait(f"{place.root}/jobs/never", timeout_seconds=20)


def test_many_jobs_and_commands_share_one_connection(
    place: SSHPlace, make_job: MakeJob, sshd: Sshd
) -> None:
    n = 16  # more than sshd allows sessions
    script = "touch here.$0; until test $(ls here.* | wc -l) = 16; do sleep 0.05; done; exit $0"
    jobs = [make_job("", argv=("sh", "-c", script, str(i)), name=str(i)) for i in range(n)]
    codes: dict[int, int | None] = {}
    others = set(sshd.connection_pids())  # what tests before left may stay, or go at any moment

    def go(i: int) -> None:
        codes[i] = run(place, jobs[i]).exit_code

    threads = [threading.Thread(target=go, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == {i: i for i in range(n)}
    assert len(set(sshd.connection_pids()) - others) == 1


def test_a_dropped_connection_is_restored_while_a_job_runs(
    place: SSHPlace, make_job: MakeJob, sshd: Sshd, tmp_path: Path
) -> None:
    jobs = [make_job(f"{UNTIL_GO}; exit 4", name=str(i)) for i in range(2)]
    results: list[JobResult | None] = []
    threads = []
    for job in jobs:
        place.start(job)
        wait = threading.Thread(
            target=lambda d=job.directory: results.append(place.wait(d, timeout_seconds=30))
        )
        wait.start()
        threads.append(wait)
    assert place.wait(jobs[0].directory, timeout_seconds=0.2) is None  # the follower listens
    drop_connections(sshd)
    (tmp_path / "go").touch()
    for thread in threads:
        thread.join()
    assert [result and result.exit_code for result in results] == [4, 4]


def test_another_process_can_wait_for_a_job(
    place: SSHPlace, make_job: MakeJob, sshd: Sshd, tmp_path: Path
) -> None:
    job = make_job(f"{UNTIL_GO}; exit 5")
    place.start(job)
    place.close()
    again = SSHPlace(HOST, place.root, config=sshd.config)
    (tmp_path / "go").touch()
    result = again.wait(job.directory, timeout_seconds=20)
    again.close()
    assert result is not None
    assert result.exit_code == 5


def test_closing_ends_a_wait(place: SSHPlace, make_job: MakeJob) -> None:
    job = make_job("sleep 1000")
    place.start(job)
    errors: list[Exception] = []

    def wait() -> None:
        try:
            place.wait(job.directory)
        except BackendUnreachable as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    assert place.wait(job.directory, timeout_seconds=0.2) is None
    place.close()
    thread.join(20)
    assert [str(error).endswith("closed") for error in errors] == [True]


def test_a_host_that_went_away_ends_commands_and_waits(tmp_path: Path) -> None:
    with running_sshd(tmp_path) as sshd:
        place = SSHPlace(HOST, config=sshd.config, give_up_seconds=0.5)
        job = Job(
            directory=f"{place.root}/jobs/job",
            argv=("sleep", "1000"),
            cwd="/",
            env={"PATH": os.environ["PATH"]},
            timeout_seconds=60,
        )
        place.start(job)
    with pytest.raises(BackendUnreachable):
        place.run(["true"])
    with pytest.raises(BackendUnreachable):
        place.wait(job.directory, timeout_seconds=30)
    assert [row[:2] for row in place.check()] == [("connection", False)]
    with running_sshd(tmp_path, port=sshd.port):
        wait_until(lambda: place.check()[0][1])
        place.kill(job.directory)
        result = place.wait(job.directory, timeout_seconds=20)
        place.close()
    assert result is not None
    assert result.ending is Ending.KILLED


def test_an_unknown_host_key_is_refused(sshd: Sshd, tmp_path: Path) -> None:
    (tmp_path / "known_hosts").touch()
    known = sshd.config.parent / "known_hosts"
    others = set(sshd.connection_pids())
    config = tmp_path / "ssh_config"
    config.write_text(sshd.config.read_text().replace(str(known), str(tmp_path / "known_hosts")))
    with pytest.raises(BackendUnreachable, match="known_hosts"):
        SSHPlace(HOST, config=config).run(["true"])
    wait_until(lambda: set(sshd.connection_pids()) <= others)
    config.write_text(config.read_text().replace("Checking yes", "Checking accept-new"))
    place = SSHPlace(HOST, config=config)
    assert place.run(["echo", "yes"]).text == "yes"
    place.close()
    assert (tmp_path / "known_hosts").read_text().split()[1:] == known.read_text().split()[1:]


def test_git_reaches_a_repository_there(place: SSHPlace, tmp_path: Path) -> None:
    repository = tmp_path / "a repository"
    subprocess.run(["git", "init", "-q", "--bare", repository], check=True)
    git = [shutil.which("git") or "git", "ls-remote", place.git_url(str(repository))]
    subprocess.run(git, env={**os.environ, **place.git_environment}, check=True)


def test_the_host_has_what_is_needed(place: SSHPlace) -> None:
    rows = place.check()
    assert [row[0] for row in rows][:2] == ["connection", "python3"]
    assert [row for row in rows if not row[1]] == []


OLD = Path.home() / ".pyenv" / "versions"


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.13"])
def test_the_supervisor_runs_on_other_pythons(tmp_path: Path, version: str) -> None:
    found = next(iter(OLD.glob(f"{version}.*/bin/python3")), None) or shutil.which(
        f"python{version}"
    )
    if found is None:
        pytest.skip(f"needs Python {version}")
    job = Job(
        directory=str(tmp_path / "job"),
        argv=("sh", "-c", "setsid sleep 1000 & echo hello; exit 3"),
        cwd="/",
        env={"PATH": os.environ["PATH"]},
        timeout_seconds=20,
    )
    assert supervise.prepare(job.directory, job.pack(), b"")
    argv = [str(found), "-I", "-S", supervise.__file__]
    subprocess.run([*argv, "run", job.directory], check=True, stdout=subprocess.PIPE)
    result = JobResult.parse((tmp_path / "job" / "result.json").read_bytes())
    assert (result.ending, result.exit_code) == (Ending.EXITED, 3)
    assert (tmp_path / "job" / "output.log").read_bytes() == b"hello\n"
    name = str(tmp_path / "job").encode()
    follower = subprocess.Popen([*argv, "follow"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert follower.stdin is not None
    follower.stdin.write(b"+" + name + b"\0")
    follower.stdin.flush()
    assert follower.stdout is not None
    heard = follower.stdout.read(2 + len(name) + 1)
    follower.communicate()
    assert heard == b"\0\0" + name + b"\0"
