"""Stage ingest: read raw scans into stored scenes."""

import sys

from pcdistill.cli.run import run_stage_command

if __name__ == "__main__":
    sys.exit(run_stage_command("ingest", sys.argv[1:]))
