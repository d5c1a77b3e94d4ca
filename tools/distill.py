"""Training of a run's students by several processes, one for each GPU.

    torchrun --nproc-per-node 8 tools/distill.py CONFIG [--student NAME]

The earlier stages are done by then; `pcdistill run CONFIG` goes on with what comes after. Nodes
that train together share the workspace and take torchrun's own options (docs/training.md).
"""

from __future__ import annotations

import sys

import tyro

from pcdistill.cli.distill_ranks import distill
from pcdistill.cli.words import SET_OPTION, merge_repeated_option, run_with_error_reporting


def main() -> int:
    """Run the command line; returns the exit status."""
    words = merge_repeated_option(sys.argv[1:], SET_OPTION)
    return run_with_error_reporting(lambda: tyro.cli(distill, args=words, prog="distill"))


if __name__ == "__main__":
    sys.exit(main())
