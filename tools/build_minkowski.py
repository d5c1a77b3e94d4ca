"""Build script of MinkowskiEngine 0.5.4 for the CPU, which keeps the wheel.

    python tools/build_minkowski.py            # build unless cached, print its folder
    python tools/build_minkowski.py --install  # also install the wheel beside pcdistill
    python tools/build_minkowski.py --where    # print that folder if there is one, build nothing

Tests and benchmarks compare our engine with it. It takes about four minutes on two cores, a C++
compiler, the headers of OpenBLAS (Debian: libopenblas-dev) and access to PyPI. The wheel and an
unpacked copy of it are kept under ~/.cache/pcdistill (PCDISTILL_CACHE says otherwise), one for each
version of torch and Python, and nothing is installed beside pcdistill unless asked for.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

VERSION = "0.5.4"
SETUPTOOLS = "65.5.0" if sys.version_info < (3, 12) else "69.5.1"
"""Its setup.py is of 2021; setuptools of today does not run it."""
BLAS_HEADERS = (
    "/usr/include/x86_64-linux-gnu/openblas-pthread",
    "/usr/include/aarch64-linux-gnu/openblas-pthread",
    "/usr/include/openblas",
    "/usr/include",
    "/usr/local/include",
)
"""Where distributions put the cblas.h of OpenBLAS."""
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")


class BuildError(Exception):
    """Something that the build needs is missing; the text says what."""


def main() -> None:
    """Build, or say in one sentence why that cannot be done."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=2, help="compilers at a time (default 2)")
    parser.add_argument("--install", action="store_true", help="install the wheel here as well")
    parser.add_argument("--where", action="store_true", help="build nothing, print what is cached")
    arguments = parser.parse_args()
    if arguments.where:
        print(site_folder() if site_folder().is_dir() else "")
        return
    try:
        if not site_folder().is_dir():
            build(arguments.jobs)
        if arguments.install:
            (wheel,) = cache_folder().glob("*.whl")
            run([*PIP, "install", "--no-deps", "--no-index", wheel], "installing the wheel")
    except BuildError as error:
        sys.exit(f"MinkowskiEngine was not built: {error}")
    print(site_folder())


def cache_folder() -> Path:
    """Folder of the wheel for this torch, this Python and this kind of machine."""
    root = Path(os.environ.get("PCDISTILL_CACHE", Path.home() / ".cache" / "pcdistill"))
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    key = f"minkowskiengine-{VERSION}-torch-{version('torch')}-{python}-{platform.machine()}"
    return root / "wheels" / key


def site_folder() -> Path:
    """Folder to put on the import path."""
    return cache_folder() / "site"


def build(jobs: int) -> None:
    """Fill the cache folder, whole or not at all."""
    headers = next((path for path in BLAS_HEADERS if Path(path, "cblas.h").is_file()), None)
    if headers is None:
        raise BuildError("cblas.h of OpenBLAS is absent; apt-get install libopenblas-dev")
    if not (shutil.which(os.environ.get("CXX", "c++")) or shutil.which("g++")):
        raise BuildError("there is no C++ compiler; apt-get install g++")
    cache_folder().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_folder().parent, prefix=".building-") as scratch:
        folder = Path(scratch)
        made = folder / "made"
        made.mkdir()
        environment = build_environment(folder, jobs)
        source = fetch_source(folder, environment)
        command = [sys.executable, "setup.py", "bdist_wheel", "--dist-dir", made, "--cpu_only"]
        command += ["--blas=openblas", f"--blas_include_dirs={headers}"]
        print(f"compiling MinkowskiEngine {VERSION}, a few minutes", file=sys.stderr)
        run(command, "compiling", cwd=source, env=environment)
        (wheel,) = made.glob("*.whl")
        unpack = [*PIP, "install", "--no-deps", "--no-index", "--target", made / "site", wheel]
        run(unpack, "unpacking the wheel")
        shutil.rmtree(cache_folder(), ignore_errors=True)
        made.rename(cache_folder())


def build_environment(folder: Path, jobs: int) -> dict[str, str]:
    """Environment with its own setuptools, and with a `pip` that does nothing.

    (Its setup.py begins by uninstalling MinkowskiEngine with whatever `pip` it finds.)
    """
    tools, idle = folder / "tools", folder / "idle"
    wanted = [f"setuptools=={SETUPTOOLS}", "wheel", "ninja"]
    # --no-deps: pip would complain that torch wants a newer setuptools, which is not replaced.
    run([*PIP, "install", "--no-deps", "--target", tools, *wanted], "fetching build tools")
    idle.mkdir()
    (idle / "pip").write_text("#!/bin/sh\nexit 0\n")
    (idle / "pip").chmod(0o755)
    return {
        **os.environ,
        "PATH": os.pathsep.join([str(tools / "bin"), str(idle), os.environ.get("PATH", "")]),
        "PYTHONPATH": str(tools),
        "CUDA_VISIBLE_DEVICES": "",
        "MAX_JOBS": str(jobs),
    }


def fetch_source(folder: Path, environment: dict[str, str]) -> Path:
    """Download and unpack the released source."""
    command = [*PIP, "download", "--no-deps", "--no-binary", ":all:", "--no-build-isolation"]
    command += ["--dest", str(folder), f"MinkowskiEngine=={VERSION}"]
    run(command, "downloading the source", env=environment)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz")


def run(command: list[Any], doing: str, **options: Any) -> None:
    """Run a command; its output is shown only when it fails."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )
    if done.returncode:
        print(done.stdout, file=sys.stderr)
        raise BuildError(f"{doing} failed with exit status {done.returncode}, see above")


if __name__ == "__main__":
    main()
