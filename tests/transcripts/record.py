"""Records the transcripts anew: `python -m tests.transcripts.record [CLI ...]`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.agent_clis import CLIS, cases, neutral, run

FOLDER = Path(__file__).parent


def main(names: list[str]) -> int:
    """Run each case of each CLI and keep its output; 1 when one ended unlike it should."""
    is_good = True
    for cli in [CLIS[name] for name in names or CLIS]:
        (FOLDER / cli.name).mkdir(exist_ok=True)
        for name, case in cases(cli).items():
            with tempfile.TemporaryDirectory(prefix=f"{cli.name}-") as root:
                ran = run(cli, case, Path(root) / "run")
                text = neutral(ran.stdout, ran)
            (FOLDER / cli.name / f"{name}.jsonl").write_text(text)
            is_good &= ran.exit_code == case.exit_code
            lines = len(text.splitlines())
            sys.stdout.write(f"{cli.name} {name}: exit {ran.exit_code}, {lines} lines\n")
    return 0 if is_good else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
