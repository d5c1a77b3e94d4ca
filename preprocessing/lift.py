"""Stage lift: carry each teacher's features onto the points."""

import sys

from pcdistill.cli.run import run_stage_command

if __name__ == "__main__":
    sys.exit(run_stage_command("lift", sys.argv[1:]))
