"""The command line: one module a group of commands, which loads what a command needs when it runs.

Nothing here may import torch, numba or numpy at the top of a module: `pcdistill --help` answers at
once because it imports only what describes the commands.
"""

from pcdistill.cli.app import main, run_command

__all__ = ["main", "run_command"]
