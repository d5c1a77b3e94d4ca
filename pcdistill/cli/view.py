"""Command `view`: a run in the browser."""

from __future__ import annotations

import getpass
import socket
import sys
import threading
from pathlib import Path

from tyro.conf import Positional

from pcdistill.cli.words import OptionalText, make_console


def view(
    run: Positional[Path],
    scene: OptionalText = None,
    host: str = "127.0.0.1",
    port: int = 8080,
) -> int:
    """Look at a run in the browser: its scenes, what each method says, answers, and why.

    Args:
        run: Workspace of the run.
        scene: The scene to begin with; by default the first that is measured.
        host: Address to listen at; by default only this machine reaches it.
        port: To listen at; 0 takes any that is free.
    """
    from pcdistill.inference import open_run
    from pcdistill.viewer import LOCAL_HOSTS, ViewerApp, ViewerSession

    console = make_console()
    app = ViewerApp(ViewerSession(open_run(run), scene), host, port)
    local = host in LOCAL_HOSTS
    if not local:
        sys.stderr.write(
            f"WARNING: everybody who can reach port {app.port} of this machine sees the scans and "
            "photographs of this run, without a password; leave --host out to be reached from "
            "this machine only\n"
        )
    console.print(f"viewer: http://{'localhost' if local else host}:{app.port}", markup=False)
    if local:
        here = f"{getpass.getuser()}@{socket.gethostname()}"
        console.print(
            f"from another machine: ssh -N -L {app.port}:localhost:{app.port} {here}, then open "
            "the same address there",
            markup=False,
        )
    console.print("Ctrl-C ends it", markup=False)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        console.print("viewer closed")
    finally:
        app.close()
    return 0
