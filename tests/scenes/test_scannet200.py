"""The 200 categories of ScanNet200: their order, their ids, and the raw table they come from."""

from __future__ import annotations

import csv
import json

import pytest

from pcdistill.errors import ConfigError
from pcdistill.scenes import load_label_set


def test_the_two_hundred_categories_in_benchmark_order():
    label_set = load_label_set("scannet200")
    assert len(label_set.names) == len(label_set.ids) == 200
    assert label_set.names[:5] == ("wall", "chair", "floor", "table", "door")
    assert label_set.names[-3:] == ("potted plant", "luggage", "mattress")
    # ids of the raw table: ascending, with gaps; the last block was added by the benchmark
    assert list(label_set.ids) == sorted(label_set.ids)
    assert label_set.ids[:12] == (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13)
    assert label_set.ids[-1] == 1191
    assert len({tuple(color) for color in label_set.palette.tolist()}) == 200
    named = dict(zip(label_set.names, label_set.ids, strict=True))
    assert (named["couch"], named["refrigerator"], named["mailbox"]) == (6, 27, 540)
    assert label_set.prompts[5] == "a couch in a scene"


def test_the_twenty_categories_have_the_numbers_of_nyu():
    ids = load_label_set("scannet20").ids
    assert ids == (*range(1, 13), 14, 16, 24, 28, 33, 34, 36, 39)


def test_every_id_is_that_of_its_name_in_the_raw_table(data_root):
    tables = sorted(data_root.glob("*/scannetv2-labels.combined.tsv"))
    if not tables:
        pytest.skip(f"no table of raw categories below {data_root}")
    for table in tables:
        raw: dict[int, set[str]] = {}
        with table.open(newline="") as stream:
            for row in csv.DictReader(stream, delimiter="\t"):
                raw.setdefault(int(row["id"]), set()).add(row["raw_category"])
        label_set = load_label_set("scannet200")
        for name, number in zip(label_set.names, label_set.ids, strict=True):
            assert name in raw[number]


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([{"name": "a", "id": 1}, "b"], "1 different ids for 2 categories, expected one for each"),
        ([{"name": "a", "id": 1}, {"name": "b", "id": 1}], "1 different ids for 2 categories"),
        ([{"name": "a", "id": "1"}], "an id is '1', expected a number from 0"),
        ([{"name": "a", "id": -1}], "an id is -1"),
    ],
)
def test_ids_of_a_users_own_set_are_for_all_or_for_none(tmp_path, categories, message):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(categories))
    with pytest.raises(ConfigError, match=message):
        load_label_set(file)
