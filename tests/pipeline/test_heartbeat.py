"""Files that are held are touched, and who watches them uses its own clock alone."""

from __future__ import annotations

import os
import time

from pcdistill.pipeline import heartbeat
from pcdistill.pipeline.heartbeat import Heartbeat, Watch, touch_mark


def test_only_files_that_are_held_are_touched(tmp_path, monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT", 0.01)
    beating = Heartbeat()
    handles = [os.open(tmp_path / name, os.O_CREAT | os.O_RDWR) for name in "ab"]
    for handle in handles:
        os.utime(handle, (1, 1))
        beating.add(handle)
    beating.remove(handles[1])
    os.utime(handles[1], (1, 1))
    deadline = time.monotonic() + 30
    while touch_mark(handles[0])[1] == 10**9 and time.monotonic() < deadline:
        time.sleep(0.01)
    beating.stop()
    assert touch_mark(handles[0])[1] != 10**9
    assert touch_mark(handles[1])[1] == 10**9
    for handle in handles:
        os.close(handle)


def test_silence_is_counted_from_when_a_mark_was_first_seen_and_ends_when_it_changes():
    now = [100.0]
    watch = Watch(lambda: now[0])
    assert watch.silence("a", 1) == 0
    now[0] += 50
    assert watch.silence("a", 1) == 50
    assert watch.silence("b", 1) == 0
    assert watch.silence("a", 0) == 0  # a clock that was set back is a change too
    now[0] += 7
    assert watch.silence("a", 0) == 7
    watch.forget("a")
    assert watch.silence("a", 0) == 0
