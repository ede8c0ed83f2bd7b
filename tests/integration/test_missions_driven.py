from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from flows.ledger.log import Ledger
from flows.missions import is_driven
from tests.ledgers import small_mission, write_ledger

HOLD = """
import sys
from pathlib import Path
from flows.ledger.log import Ledger
with Ledger(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_mission_is_driven_while_another_process_holds_its_ledger(tmp_path: Path) -> None:
    ledger = write_ledger(tmp_path / "missions", "m1", small_mission())
    assert not is_driven(tmp_path, "m1")
    argv = [sys.executable, "-c", HOLD, str(ledger)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert is_driven(tmp_path, "m1")
        holder.kill()
        holder.wait()
        assert not is_driven(tmp_path, "m1"), "death lets go"


def test_asking_does_not_keep_a_driver_out(tmp_path: Path) -> None:
    ledger = write_ledger(tmp_path / "missions", "m1", small_mission())
    assert not is_driven(tmp_path, "m1")
    with Ledger(ledger):
        assert is_driven(tmp_path, "m1")


def test_a_mission_that_is_not_there_is_not_driven(tmp_path: Path) -> None:
    assert not is_driven(tmp_path, "m1")
