"""Stage score: measure each teacher's skill per class."""

import sys

from pcdistill.cli.run import run_stage_command

if __name__ == "__main__":
    sys.exit(run_stage_command("score", sys.argv[1:]))
