"""A file is there whole or not at all."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pcdistill.atomic_io import atomic_file, atomic_folder, remove_stale_temporaries
from pcdistill.pipeline.artifact_files import read_json, write_json
from pcdistill.processes import machine_mark


def test_an_exception_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "table.json"
    write_json(path, {"kept": 1})
    with pytest.raises(RuntimeError), atomic_file(path) as temporary:
        temporary.write_text("half of")
        raise RuntimeError
    assert read_json(path) == {"kept": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["table.json"]


def test_leftovers_of_dead_processes_go_and_those_of_living_ones_stay(tmp_path):
    """Those of a container or a boot that is no more go too, whatever number they have."""
    host, mark = socket.gethostname(), machine_mark()
    dead = [f".x.json.{host}.{mark}.4194304.part", f".x.json.{host}.4194304.part"]
    dead += [f".x.json.{host}.abcdef.{os.getpid()}.part", f".x.{host}.{mark}.4194304.partial"]
    living = [f".x.json.{host}.{mark}.{os.getpid()}.part", ".x.json.another-host.1.part", "x.part"]
    (tmp_path / "a" / dead[-1]).mkdir(parents=True)
    for name in (*dead[:-1], *living):
        (tmp_path / "a" / name).write_text("half")
    assert remove_stale_temporaries(tmp_path) == len(dead)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(living)


def killed_at(step: int, write: Callable[[], None]) -> bool:
    """Whether a process that writes came to its end before it did so many things to files."""
    child = os.fork()
    if child == 0:
        left = iter(range(step))

        def watch(event: str, _: object) -> None:
            if (event == "open" or event.startswith("os.")) and next(left, None) is None:
                os._exit(1)

        sys.addaudithook(watch)
        write()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def write_closed(path: Path) -> None:
    """A file that nobody else may read, as safetensors writes them."""
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_of_a_process_that_is_killed_at_any_step_nothing_stays(tmp_path, kind):
    place = tmp_path / "a" / "written"

    def write() -> None:
        if kind == "file":
            with atomic_file(place) as temporary:
                write_closed(temporary)
        else:
            with atomic_folder(place) as temporary:
                write_closed(temporary / "content")

    step = 0
    while not killed_at(step, write):
        remove_stale_temporaries(tmp_path)
        assert [path.name for path in tmp_path.glob("a/*")] in ([], ["written"]), step
        assert kind == "file" or not place.exists() or os.listdir(place) == ["content"]
        step += 1
    assert step > 5


@pytest.mark.parametrize("other", ["puts its own there", "took the old one away"])
def test_of_two_writers_of_a_folder_the_last_one_leaves_it_whole(tmp_path, monkeypatch, other):
    """Neither fails because of what the other did between two steps of the exchange."""
    folder, rename, met = tmp_path / "folder", Path.rename, []

    def meet(self, target):
        if self == folder and not met:
            met.append(other)
            rename(folder, tmp_path / "taken")
            if other == "puts its own there":
                rename(tmp_path / "taken", target)
                folder.mkdir()
                (folder / "of the other").write_text("2")
                return folder
        return rename(self, target)

    for number in "12":
        if number == "2":
            monkeypatch.setattr(Path, "rename", meet)
        with atomic_folder(folder) as temporary:
            (temporary / "one").write_text(number)
    assert met == [other]
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [("one", "2")]
    assert {path.name for path in tmp_path.iterdir()} <= {"folder", "taken"}


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
