"""Stage synthesize: make reference images of each vocabulary class."""

import sys

from pcdistill.cli.run import run_stage_command

if __name__ == "__main__":
    sys.exit(run_stage_command("synthesize", sys.argv[1:]))
