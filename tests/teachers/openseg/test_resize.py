"""Which part of OpenSeg's map is kept, and how it is resized, as OpenScene does."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pcdistill.teachers.openseg.worker import Size, nearest_rows, resized_features, valid_region
from tests.conftest import golden_cases, load_npz

SIDE = 640


@pytest.fixture(scope="module", params=golden_cases("teachers/openseg_resize.npz"))
def stored(request):
    return load_npz(request.param)


@pytest.fixture(scope="module", params=golden_cases("teachers/openseg_resize_meta.json"))
def facts(request):
    return json.loads(request.param.read_text())


def fake_map():
    """The features of the reference's stand-in for the model."""
    row, column = np.indices((SIDE, SIDE))
    channels = (row, column, (7 * row + 13 * column) % 251)
    tiles = (31 * (row // 16) + 17 * (column // 16)) % 97
    return np.stack([*channels, tiles], axis=-1)[None].astype(np.float32)


@pytest.mark.parametrize("case", ["scannet", "nuscenes", "portrait"])
def test_rows_columns_and_features_are_those_of_the_reference(stored, facts, case):
    info = np.array(facts[case]["image_info"], dtype=np.float32)
    region = valid_region(info)
    assert list(region) == facts[case]["crop"]
    wanted = Size(*(facts[case]["img_size"] or region))
    assert nearest_rows(region.height, wanted.height).tolist() == stored[f"{case}_rows"].tolist()
    assert nearest_rows(region.width, wanted.width).tolist() == stored[f"{case}_cols"].tolist()
    features = resized_features(fake_map(), info, wanted)
    assert features.dtype == np.float16
    expected = stored[f"{case}_feat_stride8_fp16"]
    assert np.array_equal(features.transpose(2, 0, 1)[:, ::8, ::8], expected)


def test_one_row_is_the_first():
    assert nearest_rows(9, 1).tolist() == [0]
    assert nearest_rows(1, 3).tolist() == [0, 0, 0]
    assert nearest_rows(3, 2).tolist() == [0, 2]
