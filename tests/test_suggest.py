"""Misspelt names are told what was probably meant."""

import pytest

from pcdistill.errors import ConfigError
from pcdistill.suggest import look_up, suggest


def test_the_closest_choice_or_all_in_their_order():
    assert suggest("matterprt", ("scannet", "matterport")) == "did you mean 'matterport'?"
    assert suggest("xyz", ["b", "a"]) == "expected one of: b, a"
    assert suggest("xyz", {"b": 1, "a": 2}) == "expected one of: a, b"


def test_a_table_is_looked_up_by_name():
    table = {"dense": 1, "masks": 2}
    assert look_up("teacher", "masks", table) == 2
    with pytest.raises(ConfigError) as error:
        look_up("teacher", "mask", table)
    assert str(error.value) == "unknown teacher 'mask'; did you mean 'masks'?"
