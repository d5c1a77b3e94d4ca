"""SIGTERM is noted while work goes on, and never lost."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from pcdistill.pipeline.stop_signal import noted_sigterm


@pytest.fixture
def obeyed():
    """Numbers of the signals that were not noted."""
    numbers: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: numbers.append(number))
    yield numbers
    signal.signal(signal.SIGTERM, before)


def test_a_signal_that_the_block_heeds_is_noted_only(obeyed):
    with pytest.raises(SystemExit), noted_sigterm() as stop:
        assert not stop.came
        signal.raise_signal(signal.SIGTERM)
        assert stop.came
        raise SystemExit
    assert obeyed == []
    signal.raise_signal(signal.SIGTERM)
    assert obeyed == [signal.SIGTERM]


def test_a_signal_that_came_too_late_is_obeyed_after_the_block(obeyed):
    with noted_sigterm():
        signal.raise_signal(signal.SIGTERM)
        assert obeyed == []
    assert obeyed == [signal.SIGTERM]


def test_another_thread_changes_nothing(obeyed):
    def work() -> bool:
        with noted_sigterm() as stop:
            return stop.came

    handler = signal.getsignal(signal.SIGTERM)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(work).result() is False
    assert signal.getsignal(signal.SIGTERM) is handler
    assert obeyed == []
