"""The official checkpoint is read by its own keys, and another file is refused in one sentence."""

from __future__ import annotations

import pytest
import torch

from pcdistill.errors import ArtifactError
from pcdistill.teachers.lseg.checkpoint import load_lseg
from tests.conftest import golden_cases
from tests.teachers.lseg.reduced import recorded, reduced_sizes, write_lightning

REDUCED = golden_cases("teachers/lseg_reduced_meta.json")


@pytest.mark.parametrize("meta_file", REDUCED)
@pytest.mark.parametrize("lightning", [True, False])
def test_both_layouts_give_the_recorded_features(tmp_path, meta_file, lightning):
    file, weights = tmp_path / "demo_e200.ckpt", recorded(meta_file, "weights")
    if lightning:
        write_lightning(weights, file)
    else:
        torch.save(weights, file)
    network = load_lseg(file, reduced_sizes(meta_file))
    io = recorded(meta_file, "io")
    torch.testing.assert_close(network(io["x"]), io["features"], atol=1e-5, rtol=0)
    assert not any(value.requires_grad for value in network.parameters())
    assert not network.training


@pytest.mark.parametrize("meta_file", REDUCED)
def test_keys_that_reach_no_feature_may_be_absent_and_others_may_not(tmp_path, meta_file):
    file, weights = tmp_path / "some.ckpt", recorded(meta_file, "weights")
    idle = ("clip_pretrained.", "pretrained.model.norm.", "pretrained.model.head.")
    kept = {key: value for key, value in weights.items() if not key.startswith(idle)}
    assert len(kept) < len(weights)
    write_lightning(kept, file)
    load_lseg(file, reduced_sizes(meta_file))
    del kept["scratch.head1.bias"]
    write_lightning(kept, file)
    with pytest.raises(ArtifactError, match=r"some\.ckpt: no weights of LSeg: scratch.head1.bias"):
        load_lseg(file, reduced_sizes(meta_file))


@pytest.mark.parametrize("meta_file", REDUCED)
def test_another_size_is_refused_by_name(tmp_path, meta_file):
    file, weights = tmp_path / "some.ckpt", recorded(meta_file, "weights")
    write_lightning(weights, file)
    sizes = reduced_sizes(meta_file)._replace(dimensions=768)
    with pytest.raises(ArtifactError, match=r"head1.weight \(512, 32, 1, 1\) instead of \(768"):
        load_lseg(file, sizes)
