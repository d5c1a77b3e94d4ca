"""Writing of safetensors files."""

import errno
import json
import resource
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open

from pcdistill.atomic_io import atomic_file, remove_stale_temporaries
from pcdistill.tensor_files import save_tensors

TEXTS = {"b": json.dumps({"é": 1}), "a": 'quotes " \\ \n \x01 \u2028', "c": ""}


def test_the_same_content_gives_the_same_bytes(tmp_path):
    """Of two orders of three texts, twelve files would be the same by chance once in 6**11."""
    path = tmp_path / "a.safetensors"
    tensors = {"second": torch.arange(5), 'first "é': torch.ones(2, 3)}
    written = set()
    for _ in range(12):
        save_tensors(tensors, path, TEXTS)
        written.add(path.read_bytes())
    assert len(written) == 1
    with safe_open(path, "pt") as stored:
        assert stored.metadata() == TEXTS
        assert all(torch.equal(stored.get_tensor(key), tensors[key]) for key in tensors)


def test_what_the_system_refuses_is_an_error_of_the_system(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    path = tmp_path / "a.safetensors"
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))  # Python ignores SIGXFSZ
    try:
        with pytest.raises(OSError) as refused:
            save_tensors({"a": torch.zeros(1000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert refused.value.errno == errno.EFBIG
    assert refused.value.filename == str(path)


def test_what_a_killed_process_leaves_is_removed_with_the_rest(tmp_path):
    """The library writes to a hidden file of its own, which is here stopped for good."""
    script = (
        "import os, pathlib, torch\n"
        "import pcdistill.tensor_files as files\n"
        "from pcdistill.atomic_io import atomic_file\n"
        "def killed(tensors, path, metadata):\n"
        "    (path.parent / '.tmpABCDEF').write_bytes(b'half')\n"
        "    os._exit(1)\n"
        "files.save_file = killed\n"
        "with atomic_file(pathlib.Path('a.safetensors')) as temporary:\n"
        "    files.save_tensors({'a': torch.zeros(3)}, temporary)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=False)
    assert ended.returncode == 1
    assert list(tmp_path.iterdir())
    remove_stale_temporaries(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_but_the_file_is_left(tmp_path):
    with atomic_file(tmp_path / "a.safetensors") as temporary:
        save_tensors({"a": torch.zeros(3)}, temporary, TEXTS)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
