"""A file is there whole or not at all."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from pcdistill.atomic_io import atomic_file, remove_stale_temporaries
from pcdistill.pipeline.artifact_files import read_json, write_json


def test_an_exception_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "table.json"
    write_json(path, {"kept": 1})
    with pytest.raises(RuntimeError), atomic_file(path) as temporary:
        temporary.write_text("half of")
        raise RuntimeError
    assert read_json(path) == {"kept": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["table.json"]


def test_leftovers_of_dead_processes_go_and_those_of_living_ones_stay(tmp_path):
    host = socket.gethostname()
    dead = tmp_path / "a" / f".x.json.{host}.4194304.part"
    living = tmp_path / f".x.json.{host}.{os.getpid()}.part"
    elsewhere = tmp_path / ".x.json.another-host.1.part"
    dead.parent.mkdir()
    for path in (dead, living, elsewhere):
        path.write_text("half")
    assert remove_stale_temporaries(tmp_path) == 1
    assert not dead.exists()
    assert living.exists()
    assert elsewhere.exists()


@pytest.mark.parametrize(("umask", "mode"), [("022", 0o644), ("077", 0o600), ("002", 0o664)])
def test_files_have_the_mode_that_the_user_gives_new_ones(tmp_path, umask, mode):
    """safetensors writes for the user alone, whatever the umask; folders of files count too."""
    script = (
        f"import os, pathlib, torch; os.umask(0o{umask})\n"
        "from safetensors.torch import save_file\n"
        "from pcdistill.atomic_io import atomic_file, atomic_folder\n"
        "with atomic_file(pathlib.Path('one.safetensors')) as temporary:\n"
        "    save_file({'a': torch.zeros(3)}, temporary)\n"
        "with atomic_folder(pathlib.Path('folder')) as temporary:\n"
        "    save_file({'a': torch.zeros(3)}, temporary / 'two.safetensors')\n"
        "    (temporary / 'three.txt').write_text('3')\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    for name in ("one.safetensors", "folder/two.safetensors", "folder/three.txt"):
        assert (tmp_path / name).stat().st_mode & 0o777 == mode, name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "one.safetensors"]
