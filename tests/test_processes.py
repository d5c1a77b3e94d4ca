"""Processes are known by name, and the dead among them found."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from pcdistill.processes import ProcessName, is_running, own_name


def test_a_process_that_ended_is_gone_though_nobody_has_asked_how():
    """Containers without `init` keep the entries of orphans."""
    command = [sys.executable, "-c", "import time; print('begun', flush=True); time.sleep(600)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        name = own_name()._replace(process=process.pid)
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        assert not name.is_gone
        process.send_signal(signal.SIGKILL)
        process.stdout.read()  # until the process is no more; its entry is still there
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert name.is_gone


@pytest.mark.parametrize("other", [{"host": "elsewhere"}, {"machine": "abcdef"}])
def test_nothing_is_known_of_processes_of_other_machines_and_containers(other):
    name = own_name()._replace(process=4194304)
    assert name.is_gone
    assert not name._replace(**other).is_gone
    assert not name._replace(**other).is_here


def test_a_process_is_named_by_its_number_and_its_host():
    assert str(ProcessName("node7", "abcdef", 12)) == "process 12 on node7"
    assert is_running("no number")
