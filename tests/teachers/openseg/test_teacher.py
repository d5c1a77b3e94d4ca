"""OpenSeg in its own process: with a stand-in for TensorFlow, and with TensorFlow where it is."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import pytest
import torch

from pcdistill.errors import ArtifactError, ConfigError, MissingExtraError, PcdistillError
from pcdistill.teachers import StaticTextEncoder, TeacherSetup, WeightStore, build_teacher
from pcdistill.teachers.openseg.teacher import map_size
from tests.teachers.openseg.stand_in import LargeClip, install_stand_in, write_parts


@pytest.fixture
def setup(tmp_path, monkeypatch):
    install_stand_in(tmp_path, monkeypatch)
    return TeacherSetup(LargeClip(), WeightStore(tmp_path))


def image_of(height, width, value=0):
    return torch.full((3, height, width), value, dtype=torch.uint8)


def test_the_map_holds_unit_features_at_its_own_resolution(setup):
    teacher = build_teacher("openseg", setup)
    found = teacher(image_of(480, 640))
    assert found.features.shape == (768, 240, 320)
    assert found.features.dtype == torch.float16
    assert found.image_size == (480, 640)
    length = found.features.float().norm(dim=0)
    assert (length[:10] == 0).all()  # no region covers it
    torch.testing.assert_close(length[15:], torch.ones_like(length[15:]), rtol=0, atol=2e-3)
    rows = found.features[0] / found.features[2] * 100
    torch.testing.assert_close(rows[239].float(), torch.full((320,), 479.0), rtol=0, atol=1.0)
    columns = found.features[1, 239] / found.features[2, 239] * 100
    torch.testing.assert_close(columns[-1].float(), torch.tensor(639.0), rtol=0, atol=1.0)
    assert teacher(image_of(32, 24)).features.shape == (768, 32, 24)  # the same process
    assert "tensorflow" not in sys.modules


def test_provenance_tells_the_model(setup):
    provenance = build_teacher("openseg", setup).provenance
    assert provenance["weights"] == "exported_model"
    assert provenance["revision"].endswith(" pooled/1")
    assert len(provenance["revision"]) == 12 + len(" pooled/1")


def test_sizes_of_maps():
    assert map_size((240, 320)) == (240, 320)
    assert map_size((900, 1600)) == (180, 320)
    assert map_size((640, 512)) == (320, 256)
    assert map_size((20, 30)) == (20, 30)
    assert map_size((1, 4000)) == (1, 320)


def test_a_picture_that_fails_is_told_and_the_next_one_is_seen(setup):
    teacher = build_teacher("openseg", setup)
    with pytest.raises(ArtifactError, match=r"^[^\n]*\(ValueError: a bad picture\)[^\n]*$"):
        teacher(image_of(24, 32, 1))
    assert teacher(image_of(24, 32)).image_size == (24, 32)
    with pytest.raises(ArtifactError, match="gives no ppixel_ave_feat"):
        teacher(image_of(24, 32, 3))


def test_a_process_that_dies_is_told_and_started_anew(setup):
    teacher = build_teacher("openseg", setup)
    with pytest.raises(PcdistillError, match=r"status -6, most likely .*GiB it may take"):
        teacher(image_of(24, 32, 2))
    assert teacher(image_of(24, 32)).image_size == (24, 32)


def test_a_damaged_model_is_told_every_time(setup, tmp_path):
    (tmp_path / "exported_model" / "saved_model.pb").write_text("damaged")
    teacher = build_teacher("openseg", setup)
    for _ in range(2):
        with pytest.raises(ArtifactError, match="cannot run it as OpenSeg .OSError: cannot parse"):
            teacher(image_of(24, 32))


def test_a_folder_of_something_else_is_refused(setup, tmp_path):
    (tmp_path / "exported_model" / "saved_model.pb").unlink()
    (tmp_path / "exported_model" / "weights.bin").write_bytes(b"0")
    with pytest.raises(ConfigError, match=r"exported_model: has no saved_model.pb, expected"):
        build_teacher("openseg", setup)


def test_another_text_space_is_refused_first(setup):
    with pytest.raises(ConfigError, match="'clip-vit-l-14-336' but .*'static-minilm-64'"):
        build_teacher("openseg", setup._replace(text_encoder=StaticTextEncoder()))


@pytest.mark.skipif(find_spec("tensorflow") is not None, reason="TensorFlow is installed")
def test_without_tensorflow_one_sentence_names_the_extra(tmp_path):
    write_parts(tmp_path / "exported_model")
    with pytest.raises(MissingExtraError, match=r"pip install 'pcdistill\[openseg\]'"):
        build_teacher("openseg", TeacherSetup(LargeClip(), WeightStore(tmp_path)))


SAVE = """
import sys
import tensorflow


class Model(tensorflow.Module):
    @tensorflow.function(
        input_signature=[
            tensorflow.TensorSpec([], tensorflow.string, "inp_image_bytes"),
            tensorflow.TensorSpec([1, 1, 768], tensorflow.float32, "inp_text_emb"),
        ]
    )
    def run(self, inp_image_bytes, inp_text_emb):
        image = tensorflow.io.decode_image(inp_image_bytes, expand_animations=False)
        size = tensorflow.cast(tensorflow.shape(image)[:2], tensorflow.float32)
        scale = 640.0 / tensorflow.reduce_max(size)
        both = tensorflow.stack([scale, scale])
        zero = tensorflow.zeros([2])
        info = tensorflow.stack([size, tensorflow.constant([640.0, 640.0]), both, zero])
        level = 1.0 + tensorflow.reduce_max(size)  # not known before, so not folded into the graph
        return {"image_info": info, "ppixel_ave_feat": tensorflow.fill([1, 640, 640, 768], level)}


model = Model()
tensorflow.saved_model.save(model, sys.argv[1], signatures={"serving_default": model.run})
"""


@pytest.mark.thorough
@pytest.mark.skipif(
    find_spec("tensorflow") is None,
    reason="TensorFlow is not installed: pip install 'pcdistill[openseg]'",
)
def test_a_saved_model_runs_in_tensorflow(tmp_path):
    import subprocess

    folder = tmp_path / "exported_model"
    subprocess.run([sys.executable, "-c", SAVE, str(folder)], check=True, capture_output=True)
    found = build_teacher("openseg", TeacherSetup(LargeClip(), WeightStore(tmp_path)))(
        image_of(48, 64)
    )
    assert found.features.shape == (768, 48, 64)
    expected = torch.full((768,), 768.0**-0.5)
    torch.testing.assert_close(found.features[:, 20, 30].float(), expected, rtol=0, atol=1e-3)
