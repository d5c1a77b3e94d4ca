"""Which cluster a run takes, what it reserves there, and what is said where there is none."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from pcdistill.errors import ConfigError, MissingExtraError
from pcdistill.pipeline import ray_package
from pcdistill.pipeline.ray_cluster import Machine, RayCluster, RayOptions, workers_that_fit
from pcdistill.pipeline.ray_package import import_ray, require_ray

LARGE = Machine("1", "large", 64.0, 8.0)
SMALL = Machine("2", "small", 2.0, 0.0)


@pytest.mark.parametrize(
    ("machines", "cpus", "gpus", "count"),
    [
        ((SMALL,), 1, 0, 2),
        ((SMALL, LARGE), 1, 0, 2 + 4),
        ((SMALL, LARGE), 1, 1, 4),
        ((LARGE,), 32, 1, 2),
        ((LARGE,), 1, 4, 2),
        ((SMALL,), 0.5, 0, 4),
    ],
)
def test_as_many_workers_as_the_machines_hold_but_few_on_each(machines, cpus, gpus, count):
    assert workers_that_fit(machines, cpus, gpus) == count


def test_a_worker_that_no_machine_holds_is_refused():
    with pytest.raises(ConfigError) as refused:
        workers_that_fit((SMALL, LARGE), 65, 1)
    assert str(refused.value) == (
        "--engine ray: a worker reserves 65 CPUs and 1 GPUs, but no machine of the cluster has "
        "that many (the largest, large, has 64 and 8); lower --ray-cpus or --ray-gpus"
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"cpus": 0.0}, "--ray-cpus must be more than 0, got 0.0"),
        ({"gpus": -1.0}, "--ray-gpus must be 0 or more, got -1.0"),
    ],
)
def test_impossible_reservations_are_refused(options, sentence):
    with pytest.raises(ConfigError) as refused:
        RayOptions(**options)
    assert str(refused.value) == sentence


@pytest.mark.parametrize(
    "address", ["ray://head:10001", "head", "head:port", ":6379", "head:99999"]
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ConfigError, match=r"^--ray-address is '.*', expected auto or HOST:PORT"):
        RayCluster(RayOptions(address=address), 1)


def test_an_address_where_nobody_answers_is_refused_at_once(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(ConfigError, match=rf"^--ray-address {address}: nobody answers at "):
            RayCluster(RayOptions(), 1)


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'pcdistill\[ray\]'$"):
        import_ray()
    monkeypatch.setattr(ray_package, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"^--engine ray needs ray, which is not installed"):
        require_ray()


def test_nothing_is_told_to_the_makers_of_ray():
    code = (
        "from pcdistill.pipeline.ray_package import import_ray\n"
        "ray = import_ray()\n"
        "from ray._common.usage.usage_lib import usage_stats_enabled\n"
        "assert not usage_stats_enabled()\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


@pytest.mark.slow
@pytest.mark.thorough
def test_what_is_no_cluster_is_refused_in_time(monkeypatch):
    monkeypatch.setattr("pcdistill.pipeline.ray_cluster._JOIN", 5.0)
    host = import_ray().util.get_node_ip_address()
    with socket.socket() as other:
        other.bind((host, 0))
        other.listen()
        address = f"{host}:{other.getsockname()[1]}"
        with pytest.raises(ConfigError, match=r"no Ray cluster can be joined there \(what is"):
            RayCluster(RayOptions(address=address), 1)
