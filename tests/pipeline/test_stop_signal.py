"""Signals end a process as an exception; SIGTERM is noted while work goes on, and never lost."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from pcdistill.pipeline import stop_signal
from pcdistill.pipeline.stop_signal import (
    STOPPING,
    StoppedError,
    heed_signals,
    noted_sigterm,
    stop_at_signals,
)


@pytest.fixture(autouse=True)
def nothing_is_left_to_heed(monkeypatch):
    """What a test raises is not heeded by the next one."""
    monkeypatch.setattr(stop_signal, "_asked", [])


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


@pytest.fixture
def handlers():
    """Gives every signal its handler back; SIGHUP is ignored, as under nohup."""
    numbers = [getattr(signal, name) for name in STOPPING]
    before = {number: signal.getsignal(number) for number in numbers}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_an_exception_once_and_the_next_one_ends_the_process(number):
    stop_at_signals()
    with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else StoppedError) as stopped:
        signal.raise_signal(number)
    if number == signal.SIGTERM:
        assert stopped.value.exit_status == 143
        assert str(stopped.value) == (
            "ended, because SIGTERM came; the same command goes on where it was"
        )
    assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.usefixtures("handlers")
def test_a_signal_that_is_ignored_stays_ignored():
    stop_at_signals()
    signal.raise_signal(signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGTERM, StoppedError), (signal.SIGINT, KeyboardInterrupt)]
)
def test_a_signal_that_compiled_code_made_another_error_of_is_heeded_later(number, raised):
    numbers = [getattr(signal, name) for name in STOPPING if hasattr(signal, name)]
    before = {one: signal.signal(one, signal.default_int_handler) for one in numbers}
    try:
        stop_at_signals()
        heed_signals()  # none came
        with pytest.raises(raised):
            signal.raise_signal(number)
        with pytest.raises(raised):
            heed_signals()
        stop_at_signals()
        heed_signals()  # the next command begins anew
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
