"""Training of a run's students by several processes, one for each GPU.

    torchrun --nproc-per-node 8 tools/distill.py CONFIG [--student NAME]

The earlier stages are done by then; `pcdistill run CONFIG` goes on with what comes after. Nodes
that train together share the workspace and take torchrun's own options (docs/training.md).
"""

from __future__ import annotations

import os
import sys

import tyro

from pcdistill.cli.distill_ranks import distill
from pcdistill.cli.words import SET_OPTION, merge_repeated_option, run_with_error_reporting


def main() -> int:
    """Run the command line; returns the exit status."""
    words = merge_repeated_option(sys.argv[1:], SET_OPTION)
    return run_with_error_reporting(lambda: tyro.cli(distill, args=words, prog="distill"))


if __name__ == "__main__":
    status = main()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # all is written; tidying up was once ended by "terminate called" of a library's thread
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
