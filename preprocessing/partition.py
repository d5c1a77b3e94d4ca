"""Stage partition: cut scans into superpoints."""

import sys

from pcdistill.stages.command import run_stage

if __name__ == "__main__":
    sys.exit(run_stage("partition"))
