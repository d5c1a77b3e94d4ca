"""Stage score: measure each teacher's skill per class."""

import sys

from pcdistill.stages.command import run_stage

if __name__ == "__main__":
    sys.exit(run_stage("score"))
