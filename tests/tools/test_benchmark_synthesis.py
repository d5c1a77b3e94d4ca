"""The benchmark of stage synthesize knows the table of weights, and measures what it says."""

from __future__ import annotations

import argparse

import torch

from pcdistill.teachers import WEIGHT_FILES
from tests.fixtures.segment_anything_models import save_tiny_sam
from tools.benchmarks import synthesis
from tools.benchmarks.random_folders import FOLDERS
from tools.benchmarks.random_weights import RANDOM


def test_it_knows_weights_of_the_table():
    assert set(synthesis.MEASURED) <= {*RANDOM, *FOLDERS} <= set(WEIGHT_FILES)


def test_a_segmenter_is_measured_from_its_file_on(tmp_path):
    parser = argparse.ArgumentParser()
    synthesis.add_arguments(parser)
    arguments = parser.parse_args(["--size", "40", "56", "--threads", "1", "--images", "2"])
    save_tiny_sam(tmp_path)
    threads = torch.get_num_threads()
    try:
        found = synthesis.measure_segmenter("sam-vit-b", tmp_path, arguments)
    finally:
        torch.set_num_threads(threads)
    assert found["peak_gib"] >= found["peak_gib_without_model"] > 0.05
    assert found["first_seconds"] >= 0
    assert found["seconds_per_image"] >= 0
    assert found["threads"] == 1
