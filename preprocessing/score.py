"""Stage score: measure each teacher's skill per class."""

import sys

from pcdistill.cli.run import run_stage

if __name__ == "__main__":
    sys.exit(run_stage("score", sys.argv[1:]))
