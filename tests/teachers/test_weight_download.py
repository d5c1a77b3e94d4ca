"""Downloads are asked for, continued, checked, and whole or not there."""

from __future__ import annotations

import fcntl
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pcdistill.errors import ArtifactError, ConfigError
from pcdistill.teachers.weight_download import fetch_weights, require_published
from pcdistill.teachers.weight_sources import WEIGHT_FILES, WeightFile

CONTENT = bytes(range(256)) * 20
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves one content under every path, and writes down what was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str | None]] = []
        self.ranges, self.stop_after = True, len(CONTENT)
        self.address = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        wanted = self.headers.get("Range")
        self.server.asked.append((self.path, wanted))
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if self.path.startswith("/missing"):
            self.send_error(404)
        elif wanted and start >= len(CONTENT):
            self.send_error(416)
        else:
            start = start if self.server.ranges else 0
            self.send_response(206 if wanted and self.server.ranges else 200)
            self.send_header("Content-Length", str(len(CONTENT) - start))
            self.end_headers()
            self.wfile.write(CONTENT[start : self.server.stop_after])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    running = Server()
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join()


def entry(server, **changes) -> WeightFile:
    known = {"name": "toy", "file_name": "toy.pt", "address": f"{server.address}/toy.pt"}
    return WeightFile(**{**known, "license": "MIT", "training": "none", **changes})


def fetch(known, folder) -> Path:
    return fetch_weights(known, folder, lambda done, total: None)


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def test_a_file_comes_whole_and_once(tmp_path, server):
    seen = []
    known = entry(server, sha256=DIGEST, size=len(CONTENT))
    path = fetch_weights(known, tmp_path / "new", lambda *sizes: seen.append(sizes))
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert names(tmp_path / "new") == ["toy.pt"]
    fetch(known, tmp_path / "new")
    assert len(server.asked) == 1


def test_a_broken_download_is_continued(tmp_path, server):
    known = entry(server, sha256=DIGEST)
    server.stop_after = 3000
    with pytest.raises(ConfigError, match="cannot be reached .*try again, which continues"):
        fetch(known, tmp_path)
    assert names(tmp_path) == [".toy.pt.part"]
    server.stop_after = len(CONTENT)
    assert fetch(known, tmp_path).read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == [None, "bytes=3000-"]


def test_a_server_that_cannot_continue_begins_anew(tmp_path, server):
    (tmp_path / ".toy.pt.part").write_bytes(b"something else")
    server.ranges = False
    assert fetch(entry(server, sha256=DIGEST), tmp_path).read_bytes() == CONTENT


def test_a_download_that_stopped_behind_its_last_byte_is_whole(tmp_path, server):
    (tmp_path / ".toy.pt.part").write_bytes(CONTENT)
    assert fetch(entry(server, sha256=DIGEST), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": "0" * 64}, f"has {DIGEST} as SHA-256, expected {'0' * 64} of 'toy'"),
        ({"md5_prefix": "000000"}, "at the beginning of its MD5, expected 000000"),
        ({"size": 7}, f"has {len(CONTENT)} bytes, expected 7"),
    ],
)
def test_what_is_not_as_published_is_deleted_and_named(tmp_path, server, changes, message):
    with pytest.raises(ArtifactError, match=message):
        fetch(entry(server, **changes), tmp_path)
    assert names(tmp_path) == []


def test_a_published_beginning_of_the_md5_is_compared(tmp_path, server):
    prefix = hashlib.md5(CONTENT).hexdigest()[:6]
    path = fetch(entry(server, md5_prefix=prefix), tmp_path)
    assert require_published(entry(server, md5_prefix=prefix), path)
    assert not require_published(entry(server), path)


def test_a_folder_appears_with_all_its_files(tmp_path, server):
    known = entry(server, file_name="model", address=server.address, parts=("a.pb", "b/c"))
    assert fetch(known, tmp_path) == tmp_path / "model"
    assert (tmp_path / "model" / "b" / "c").read_bytes() == CONTENT
    assert [path for path, _ in server.asked] == ["/a.pb", "/b/c"]
    broken = known._replace(file_name="other", parts=("a.pb", "missing"))
    with pytest.raises(ConfigError, match="cannot be reached"):
        fetch(broken, tmp_path)
    assert not (tmp_path / "other").exists()


def test_offline_is_one_sentence(tmp_path):
    known = WeightFile("toy", "toy.pt", "http://127.0.0.1:9/toy.pt", "MIT", "none")
    with pytest.raises(ConfigError) as caught:
        fetch(known, tmp_path)
    message = str(caught.value)
    assert message.startswith("weights 'toy': http://127.0.0.1:9/toy.pt cannot be reached (")
    assert f"bring toy.pt into {tmp_path} yourself" in message
    assert "\n" not in message


def test_a_page_for_a_person_is_said_to_be_one(tmp_path):
    with pytest.raises(ConfigError, match="page that a person opens; get demo_e200.ckpt"):
        fetch(WEIGHT_FILES["lseg"], tmp_path)
    assert names(tmp_path) == []


def test_two_processes_do_not_write_one_file(tmp_path, server):
    with (tmp_path / ".toy.pt.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="being fetched by another process"):
            fetch(entry(server), tmp_path)
    assert server.asked == []
