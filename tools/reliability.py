"""Writer of the table of docs/reliability.md: what is done to runs, and how they go on.

python tools/reliability.py                   run all of tests/faults, then write the table
python tools/reliability.py --outcomes FILE   write it of what the tests noted there
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from tests.faults.outcomes import FILE, load_outcomes, outcome_table  # noqa: E402

PAGE = REPOSITORY / "docs" / "reliability.md"
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"


def main() -> int:
    """Run the tests, unless their outcomes are given, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--outcomes", type=Path, help="what the tests noted before")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = arguments.outcomes or Path(folder) / "outcomes.jsonl"
        if arguments.outcomes is None:
            command = [sys.executable, "-m", "pytest", "tests/faults", "--extent", "all"]
            command += ["--ignore", "tests/faults/test_page.py"]  # of the page as it was before
            environment = {**os.environ, FILE: str(file), "OMP_NUM_THREADS": "1"}
            ended = subprocess.run(command, cwd=REPOSITORY, env=environment, check=False)
            if ended.returncode != 0:
                return ended.returncode
        table = outcome_table(load_outcomes(file))
    before, rest = PAGE.read_text().split(BEGIN, 1)
    PAGE.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{rest.split(END, 1)[1]}")
    print(f"wrote {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
