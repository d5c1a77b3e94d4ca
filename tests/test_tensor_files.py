"""Writing of safetensors files."""

import errno
import json
import resource

import pytest
import torch
from safetensors import safe_open

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
