"""Training of a run's students by several processes, one for each GPU.

    torchrun --nproc-per-node 8 tools/distill.py CONFIG [--student NAME]

The earlier stages are done by then; `pcdistill run CONFIG` goes on with what comes after. Nodes
that train together share the workspace and take torchrun's own options (docs/training.md). Without
a source checkout: `torchrun --nproc-per-node 8 --module pcdistill.cli.distill_ranks CONFIG`.
"""

from pcdistill.cli.distill_ranks import main

if __name__ == "__main__":
    main()
