"""What is said of a run, and which share of it is done."""

from __future__ import annotations

import pytest

from pcdistill.errors import ConfigError
from pcdistill.stages.command import parse_shard


def test_a_shard_is_number_and_count():
    assert parse_shard("0/1") == (0, 1)
    assert parse_shard("3/16") == (3, 16)


@pytest.mark.parametrize("text", ["", "1", "2/2", "-1/2", "a/b", "1/0", "1/2/3"])
def test_anything_else_is_refused(text):
    with pytest.raises(ConfigError, match="expected i/n with 0 <= i < n"):
        parse_shard(text)
