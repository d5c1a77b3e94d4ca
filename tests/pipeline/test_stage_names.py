"""The one list of stage names, which help and error messages are made of."""

from __future__ import annotations

import pytest

from pcdistill.errors import ConfigError
from pcdistill.pipeline.stage_names import STAGE_NAMES, require_stage_names
from pcdistill.stages import STAGES


def test_the_list_is_that_of_the_stages():
    assert tuple(stage.name for stage in STAGES) == STAGE_NAMES


def test_known_names_pass():
    require_stage_names(STAGE_NAMES)


def test_a_name_like_none_is_told_all_in_their_order():
    with pytest.raises(ConfigError, match=", ".join(STAGE_NAMES)):
        require_stage_names(["lift", "xyz"])
