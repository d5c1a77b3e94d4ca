"""Stage fuse: fuse the teachers' features by their skill."""

import sys

from pcdistill.cli.run import run_stage

if __name__ == "__main__":
    sys.exit(run_stage("fuse", sys.argv[1:]))
