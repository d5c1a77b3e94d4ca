"""Stage fuse: fuse the teachers' features by their skill."""

import sys

from pcdistill.cli.run import run_stage_command

if __name__ == "__main__":
    sys.exit(run_stage_command("fuse", sys.argv[1:]))
