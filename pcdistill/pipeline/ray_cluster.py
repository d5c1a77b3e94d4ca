"""Connection to a Ray cluster, or a cluster of this machine alone."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from pcdistill.errors import ConfigError, require_setting
from pcdistill.pipeline.ray_package import import_ray
from pcdistill.pipeline.stop_signal import TERMINATED
from pcdistill.processes import is_running

MAX_WORKERS_OF_A_MACHINE = 4
"""By default: more of them rarely pay on one machine's disk and memory."""
_REACH = 10.0
"""Seconds in which the head of a cluster must take a connection; Ray would try for minutes."""
_JOIN = 60.0
"""Seconds in which a cluster must let another process join."""
_PROBE = """
import sys
from pcdistill.pipeline.ray_package import import_ray
import_ray().init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
"""
_LOOK_EVERY = 3.0
"""Seconds after which the cluster is asked anew which of its machines live."""
_STORE_BYTES = 80 * 2**20
"""Memory for objects, of which units have none: the least that Ray takes."""
_PREFIX = "pcd-ray-"
_LONGEST_FOLDER = 42
"""Characters of the folder of a cluster: the names of sockets in it have a limit of 107."""


@dataclass(frozen=True)
class RayOptions:
    """What a run uses of which cluster."""

    address: str | None = None
    """`auto`, host:port, or `local`; None takes RAY_ADDRESS, else a cluster of this machine."""
    jobs: int = 0
    """Workers; 0 takes as many as the cluster holds, at most some on each machine."""
    cpus: float = 1.0
    """Processors that a worker reserves."""
    gpus: float | None = None
    """GPUs that a worker reserves; None takes one where the cluster has some."""

    def __post_init__(self) -> None:
        require_setting(self.cpus > 0, "--ray-cpus", "more than 0", self.cpus)
        ok = self.gpus is None or self.gpus >= 0
        require_setting(ok, "--ray-gpus", "0 or more", self.gpus)


@dataclass(frozen=True)
class Machine:
    """A living machine of a cluster."""

    node: str
    """Its number, hexadecimal."""
    host: str
    cpus: float
    gpus: float

    def holds(self, cpus: float, gpus: float) -> int:
        """How many workers fit that reserve this much."""
        by_gpus = self.gpus // gpus if gpus else float("inf")
        return int(min(self.cpus // cpus, by_gpus))


class RayCluster:
    """The cluster that this process is connected to."""

    def __init__(self, options: RayOptions, cores: int) -> None:
        """Connect, or start a cluster of this machine.

        Args:
            options: which one.
            cores: processors of a cluster that is started.

        Raises:
            MissingExtraError: ray is not installed.
            ConfigError: there is no such cluster, or none can be started.
        """
        address = options.address or os.environ.get("RAY_ADDRESS") or "local"
        if address == "local":
            _keep_others_out()
        self.ray = import_ray()
        self._folder: Path | None = None
        self._looked = -_LOOK_EVERY
        self._living: frozenset[str] = frozenset()
        self._ours = not self.ray.is_initialized()
        self._sigterm: Any = None
        if self._ours:
            with self._own_handler():
                if address == "local":
                    self._start(cores)
                else:
                    self._join(address)

    def machines(self) -> list[Machine]:
        """Those that live."""
        found = []
        for node in self.ray.nodes():
            if node["Alive"]:
                has: Mapping[str, float] = node["Resources"]
                sizes = has.get("CPU", 0.0), has.get("GPU", 0.0)
                found.append(Machine(node["NodeID"], node["NodeManagerHostname"], *sizes))
        return found

    def is_alive(self, node: str) -> bool:
        """Whether a machine lives, as far as the cluster knows; it is asked every few seconds."""
        if time.monotonic() - self._looked > _LOOK_EVERY:
            self._living = frozenset(machine.node for machine in self.machines())
            self._looked = time.monotonic()
        return node in self._living

    def close(self) -> None:
        """Leave the cluster, with which this process's actors end; end one that was started."""
        if self._ours:
            self.ray.shutdown()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        if self._sigterm is not None and signal.getsignal(signal.SIGTERM) == _end:
            signal.signal(signal.SIGTERM, self._sigterm)

    @contextmanager
    def _own_handler(self) -> Iterator[None]:
        """Keep SIGTERM from Ray's handler, which would end with another status.

        Where nobody handled it, it ends the process as an exception does: the workers end too.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.getsignal(signal.SIGTERM)
        try:
            yield
        finally:
            if before == signal.SIG_DFL:
                self._sigterm = before
            signal.signal(signal.SIGTERM, _end if before == signal.SIG_DFL else before)

    def _start(self, cores: int) -> None:
        self._folder = _cluster_folder()
        try:
            self.ray.init(
                address="local",
                num_cpus=cores,
                object_store_memory=_STORE_BYTES,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _temp_dir=str(self._folder),
                _node_ip_address="127.0.0.1",
            )
        except Exception as error:
            self.close()
            raise ConfigError(
                f"--engine ray: no Ray cluster can be started on this machine "
                f"({_first_line(error)}); leave --engine away to work with processes, or name a "
                "cluster with --ray-address"
            ) from None

    def _join(self, address: str) -> None:
        self._require_reachable(address)
        _require_joinable(address)
        try:
            self.ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:
            self.ray.shutdown()
            raise _not_joined(address, _first_line(error)) from None

    def _require_reachable(self, address: str) -> None:
        """Refuse an address where nobody answers.

        Raises:
            ConfigError: it is not HOST:PORT, or does not answer.
        """
        if address == "auto":
            return
        host, colon, port = address.rpartition(":")
        if "://" in address or not (colon and host and port.isdecimal() and int(port) < 65536):
            raise ConfigError(
                f"--ray-address is '{address}', expected auto or HOST:PORT of the head of a "
                "cluster, such as 10.0.0.5:6379"
            )
        if host in ("localhost", "127.0.0.1"):  # Ray takes this machine's other address then
            host = self.ray.util.get_node_ip_address()
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH).close()
        except OSError as error:
            raise ConfigError(
                f"--ray-address {address}: nobody answers at {host}:{port} "
                f"({error.strerror or error}); is the cluster's head up (`ray start --head`), and "
                "is this its address and port?"
            ) from None


def workers_that_fit(machines: Sequence[Machine], cpus: float, gpus: float) -> int:
    """How many workers a cluster holds, at most some on each machine.

    Args:
        machines: of the cluster.
        cpus: that each reserves.
        gpus: that each reserves.

    Raises:
        ConfigError: no machine holds one.
    """
    fit = sum(min(MAX_WORKERS_OF_A_MACHINE, machine.holds(cpus, gpus)) for machine in machines)
    if fit == 0:
        largest = max(machines, key=lambda machine: (machine.gpus, machine.cpus))
        raise ConfigError(
            f"--engine ray: a worker reserves {cpus:g} CPUs and {gpus:g} GPUs, but no machine of "
            f"the cluster has that many (the largest, {largest.host}, has {largest.cpus:g} and "
            f"{largest.gpus:g}); lower --ray-cpus or --ray-gpus"
        )
    return fit


def _require_joinable(address: str) -> None:
    """Let another process join a cluster first: where that fails, Ray may try for ever.

    Raises:
        ConfigError: it cannot, or not in time.
    """
    command = [sys.executable, "-c", _PROBE, address]
    try:
        tried = subprocess.run(command, capture_output=True, text=True, timeout=_JOIN)
    except subprocess.TimeoutExpired:
        raise _not_joined(address, f"what is there did not let us in for {_JOIN:.0f} s") from None
    if tried.returncode != 0:
        lines = [line.strip() for line in tried.stderr.splitlines() if line.strip()]
        raise _not_joined(address, lines[-1].rstrip(".") if lines else "no reason is given")


def _not_joined(address: str, reason: str) -> ConfigError:
    return ConfigError(
        f"--ray-address {address}: no Ray cluster can be joined there ({reason}); start one with "
        "`ray start --head`, join it on every machine with `ray start --address=HOST:6379`, and "
        "run this on one of them"
    )


def _keep_others_out() -> None:
    """Let only who knows a secret of this process use the cluster that it starts.

    Ray would keep it in the home folder. It reads these variables when it is imported first.
    """
    secret = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    if "ray" not in sys.modules and not secret.keys() & os.environ.keys():
        os.environ.update(secret)


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(TERMINATED)


def _cluster_folder() -> Path:
    """Make a folder with a short name for the files of a cluster; removes those of ended processes.

    Raises:
        ConfigError: it cannot be made.
    """
    root = Path(tempfile.gettempdir())
    if len(str(root / f"{_PREFIX}{os.getpid()}-12345678")) > _LONGEST_FOLDER:
        root = Path("/tmp")
    for left in root.glob(f"{_PREFIX}*-*"):
        if not is_running(left.name.removeprefix(_PREFIX).partition("-")[0]):
            shutil.rmtree(left, ignore_errors=True)
    try:
        return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=root))
    except OSError as error:
        raise ConfigError(
            f"--engine ray: no folder for the cluster can be made in {root} ({error.strerror}); "
            "set TMPDIR to a folder that can be written"
        ) from None


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__
