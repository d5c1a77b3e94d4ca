"""LSeg as a teacher of a run: text space, weights, provenance, and true sizes."""

from __future__ import annotations

import json

import pytest
import torch

from pcdistill.errors import ConfigError
from pcdistill.teachers import TEACHERS, TeacherSetup, WeightStore, build_teacher
from pcdistill.teachers.lseg import LSEG_VIEWS, LSegTeacher
from tests.conftest import golden_cases
from tests.teachers.lseg.reduced import recorded, reduced_network, reduced_sizes, write_lightning
from tests.teachers.lseg.tiny import NoWords

REDUCED = golden_cases("teachers/lseg_reduced_meta.json")
MANIFEST = golden_cases("teachers/lseg_manifest_full.json")


def setup_of(file, text_space="clip-vit-b-32"):
    return TeacherSetup(NoWords(text_space), WeightStore(None, {"lseg": file}))


@pytest.fixture(params=REDUCED)
def reduced(request, tmp_path):
    """Settings, and a checkpoint in the official layout."""
    file = tmp_path / "demo_e200.ckpt"
    write_lightning(recorded(request.param, "weights"), file)
    return request.param, file


WAYS = [
    pytest.param(name, marks=pytest.mark.slow) if name == "lseg-multiscale" else name
    for name in LSEG_VIEWS
]
"""Windows at four scales take minutes even of a small network; the contract looks at them, too."""


@pytest.mark.parametrize("name", WAYS)
def test_every_way_of_looking_gives_features_of_the_space(reduced, name):
    meta_file, file = reduced
    teacher = LSegTeacher(name, setup_of(file), reduced_sizes(meta_file))
    image = torch.randint(0, 256, (3, 96, 128), dtype=torch.uint8)
    found = teacher(image)
    assert (teacher.text_space, teacher.dimensions) == ("clip-vit-b-32", 512)
    assert found.image_size == (96, 128)
    assert found.features.dtype == torch.float16
    length = found.features.float().norm(dim=0)
    assert length.max() < 1.002
    if name in ("lseg-fast", "lseg-multiscale"):
        assert length.min() > 0.998
    expected = LSEG_VIEWS[name](reduced_network(meta_file), (image[None] / 127.5) - 1)
    torch.testing.assert_close(found.features, expected.features, atol=2e-3, rtol=0)


def test_ways_of_looking_have_revisions_of_their_own(reduced):
    _, file = reduced
    told = [LSegTeacher(name, setup_of(file)).provenance for name in LSEG_VIEWS]
    assert len({facts["revision"] for facts in told}) == len(LSEG_VIEWS)
    assert {facts["weights"] for facts in told} == {"demo_e200.ckpt"}
    assert all(facts["licence"] and facts["training"] for facts in told)


def test_another_text_space_is_refused_before_weights_are_looked_for(tmp_path):
    setup = setup_of(tmp_path / "absent", "static-minilm-64")
    with pytest.raises(ConfigError, match=r"'clip-vit-b-32'.*'static-minilm-64'"):
        build_teacher("lseg", setup)


def test_absent_weights_are_told_with_where_to_get_them(tmp_path):
    with pytest.raises(ConfigError, match=r"demo_e200\.ckpt.*drive\.google\.com"):
        build_teacher("lseg", TeacherSetup(NoWords(), WeightStore(tmp_path)))


def test_all_ways_of_looking_are_teachers_of_a_run():
    assert set(LSEG_VIEWS) <= set(TEACHERS)


@pytest.mark.slow
@pytest.mark.parametrize("manifest_file", MANIFEST)
def test_a_random_checkpoint_of_true_size_runs(tmp_path, manifest_file):
    """2 GB on disk, 6 GB of memory, about a minute."""
    manifest = json.loads(manifest_file.read_text())
    file = tmp_path / "demo_e200.ckpt"
    write_lightning(random_weights(manifest), file)
    teacher = build_teacher("lseg", setup_of(file))
    found = teacher(torch.randint(0, 256, (3, 480, 640), dtype=torch.uint8))
    assert found.features.shape == (512, 240, 320)
    assert found.features.isfinite().all()


def random_weights(manifest):
    """Small random values for all 730 keys; the running variances of batch norm are one."""
    weights = {}
    for key, (shape, dtype) in manifest["keys"].items():
        kind = getattr(torch, dtype)
        if kind == torch.int64:
            weights[key] = torch.zeros(shape, dtype=kind)
        elif key.endswith("running_var"):
            weights[key] = torch.ones(shape, dtype=kind)
        else:
            weights[key] = (0.02 * torch.randn(shape)).to(kind)
    return weights
