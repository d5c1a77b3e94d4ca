"""Stage partition: cut scans into superpoints."""

import sys

from pcdistill.cli.run import run_stage_command

if __name__ == "__main__":
    sys.exit(run_stage_command("partition", sys.argv[1:]))
