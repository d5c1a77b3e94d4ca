"""Framework that runs units of work: configuration, workspace, worker processes, progress."""
