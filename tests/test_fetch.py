"""Downloads against a server of our own; only here may an address begin with http."""

import errno
import fcntl
import hashlib
import re
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from types import SimpleNamespace

import pytest

from bench import cli, fetch
from bench.fetch import FetchError
from bench.recipe import RECIPE
from bench.table import TableError

CONTENT = Random(0).randbytes(5 * (1 << 20) // 2)  # two and a half pieces
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT as the test's `plan` says."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        plan = self.server.plan
        plan.asked.append(dict(self.headers))
        if self.path == "/moved":
            return self.redirect(plan.target)
        if self.path != "/file":
            return self.send_error(404, "Not Found")
        start, content = 0, plan.content
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = self.headers.get("If-Range") in (None, plan.etag)
        if wanted and plan.ranges and same:
            start = int(wanted[1])
            if start >= len(content):
                return self.send_error(416, "Range Not Satisfiable")
            self.send_response(206)
            first = start + plan.shift
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if plan.length:
            self.send_header("Content-Length", str(len(content) - start))
        if plan.etag:
            self.send_header("ETag", plan.etag)
        self.end_headers()
        self.wfile.write(content[start : plan.cut])
        self.close_connection = True
        return None

    def redirect(self, target):
        self.send_response(302)
        self.send_header("Location", target)
        self.end_headers()


class Server(ThreadingHTTPServer):
    def handle_error(self, *_):
        """A client that has hung up is what some tests want."""


@pytest.fixture
def server():
    with Server(("127.0.0.1", 0), Handler) as made:
        made.plan = SimpleNamespace(
            content=CONTENT, etag='"v1"', ranges=True, length=True, cut=None, shift=0, asked=[],
            target="",
        )  # fmt: skip
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        made.plan.address = f"http://127.0.0.1:{made.server_address[1]}"
        yield made.plan
        made.shutdown()
        thread.join()


@pytest.fixture
def recipe(server, tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_ARENA_DATA", str(tmp_path))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(fetch, "SAFE", ("https://", "http://127.0.0.1:"))
    return {"url": f"{server.address}/file", "file": "data.bin", "megabytes": 3,
            "source_sha256": DIGEST}  # fmt: skip


def left(folder):
    return sorted(path.name for path in (folder / "downloads").iterdir())


def test_a_whole_file(recipe, tmp_path, server):
    pieces = []

    def progress(items, total=None):
        pieces.append(total)
        return items

    path = fetch.fetch(recipe, progress=progress)
    assert path == tmp_path / "downloads/data.bin"
    assert path.read_bytes() == CONTENT
    assert left(tmp_path) == ["data.bin"]
    assert pieces == [3]
    assert fetch.find_file(recipe) == path
    assert "Range" not in server.asked[0]


def test_without_length_or_digest(recipe, server, tmp_path):
    server.length = False
    assert fetch.fetch({k: recipe[k] for k in ("url", "file")}).read_bytes() == CONTENT
    assert left(tmp_path) == ["data.bin"]


def broken(recipe, server, cut=1_000_000):
    server.cut = cut
    with pytest.raises(FetchError, match=r"run the same command again to go on$") as raised:
        fetch.fetch(recipe)
    server.cut = None
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("known", [True, False])
def test_a_broken_download_goes_on(recipe, server, tmp_path, known):
    if not known:
        del recipe["source_sha256"]
    broken(recipe, server)
    assert left(tmp_path) == ["data.bin.part", "data.bin.version"]
    assert fetch.fetch(recipe).read_bytes() == CONTENT
    assert server.asked[-1]["Range"] == "bytes=1000000-"
    assert server.asked[-1]["If-Range"] == '"v1"'
    assert left(tmp_path) == ["data.bin"]


def test_a_file_that_changed_meanwhile_is_begun_again(recipe, server):
    broken(recipe, server)
    server.etag, server.content = '"v2"', CONTENT[::-1]
    recipe["source_sha256"] = hashlib.sha256(server.content).hexdigest()
    assert fetch.fetch(recipe).read_bytes() == server.content


@pytest.mark.parametrize("etag", [None, 'W/"v1"'])
def test_without_a_version_only_a_digest_allows_to_go_on(recipe, server, etag):
    server.etag = etag
    broken(recipe, server)
    fetch.fetch(recipe)
    assert "Range" in server.asked[-1]
    assert "If-Range" not in server.asked[-1]
    del recipe["source_sha256"]
    recipe["file"] = "other.bin"
    broken(recipe, server)
    assert fetch.fetch(recipe).read_bytes() == CONTENT
    assert "Range" not in server.asked[-1]


def test_a_server_without_ranges_sends_all_again(recipe, server):
    broken(recipe, server)
    server.ranges = False
    assert fetch.fetch(recipe).read_bytes() == CONTENT


def test_a_part_that_is_whole_already(recipe, server, tmp_path):
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads/data.bin.part").write_bytes(CONTENT)
    assert fetch.fetch(recipe).read_bytes() == CONTENT
    assert len(server.asked) == 1
    (tmp_path / "downloads/data.bin.part").write_bytes(bytes(len(CONTENT) + 7))
    assert fetch.fetch(recipe).read_bytes() == CONTENT
    assert len(server.asked) == 3


def test_another_part_than_asked_for(recipe, server):
    broken(recipe, server)
    server.shift = 5
    with pytest.raises(FetchError, match=r"gives another part of the file than was asked for"):
        fetch.fetch(recipe)


def test_another_file_than_expected(recipe, server, tmp_path):
    server.content = CONTENT[:-1] + b"?"
    with pytest.raises(FetchError, match=r"its SHA-256 is \w{12}…, not \w{12}…; it was removed$"):
        fetch.fetch(recipe)
    assert left(tmp_path) == []


@pytest.mark.parametrize("length", [True, False])
def test_a_file_that_is_too_large(recipe, server, tmp_path, length):
    server.content, server.length = CONTENT * 2, length
    with pytest.raises(FetchError, match=r"more than the "):
        fetch.fetch(recipe)
    assert left(tmp_path) == []


def test_no_such_file(recipe, tmp_path):
    recipe["url"] += "s"
    with pytest.raises(
        FetchError, match=r"/files answers 404 Not Found; try again, or get data.bin"
    ):
        fetch.fetch(recipe)
    assert left(tmp_path) == []


def test_redirections(recipe, server, tmp_path):
    recipe["url"] = recipe["url"].replace("/file", "/moved")
    server.target = f"{server.address}/file"
    assert fetch.fetch(recipe).read_bytes() == CONTENT
    for target in "http://localhost:9/file", "ftp://127.0.0.1/file", "file:///etc/hostname":
        server.target, recipe["file"] = target, "more.bin"
        sentence = rf"leads to {target}, which is no https address|'{target}' is not allowed"
        with pytest.raises(FetchError, match=sentence):
            fetch.fetch(recipe)
    assert left(tmp_path) == ["data.bin"]


def test_only_https(recipe, monkeypatch):
    monkeypatch.undo()
    assert fetch.SAFE == "https://"
    for url in recipe["url"], "file:///etc/hostname", "ftp://x/y":
        with pytest.raises(FetchError, match=r"is no https address$"):
            fetch.fetch(recipe | {"url": url})


def test_nobody_answers(recipe, tmp_path):
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as gone:
        port = gone.server_address[1]
    recipe["url"] = f"http://127.0.0.1:{port}/file"
    with pytest.raises(FetchError, match=r"cannot be reached \(Connection refused\), perhaps for"):
        fetch.fetch(recipe)
    assert left(tmp_path) == []


def test_offline(recipe, tmp_path, monkeypatch):
    def unknown(*_, **__):
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", unknown)
    recipe["url"] = "https://files.example.org/data.bin"
    with pytest.raises(FetchError) as raised:
        fetch.fetch(recipe)
    assert str(raised.value) == (
        "https://files.example.org/data.bin cannot be reached (Name or service not known), "
        "perhaps for lack of a connection to the internet; try again, or get data.bin elsewhere "
        f"and put it into {fetch.download_folder()}"
    )
    assert left(tmp_path) == []


def test_a_disk_that_fills_up(recipe, tmp_path, monkeypatch):
    """A write that the disk refuses; what is there is gone on with."""
    pieces = fetch._pieces

    def full(*arguments):
        yield next(pieces(*arguments))
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(fetch, "_pieces", full)
        with pytest.raises(FetchError, match=r"data.bin cannot be written: No space left on dev"):
            fetch.fetch(recipe)
    assert left(tmp_path) == ["data.bin.part", "data.bin.version"]
    assert fetch.fetch(recipe).read_bytes() == CONTENT


def test_a_disk_that_is_too_small(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2_000_000))
    with pytest.raises(FetchError, match=r"has room for 2 MB and 3 MB are to come; make room or"):
        fetch.fetch(recipe)
    assert left(tmp_path) == []


def test_a_folder_that_cannot_be_made(recipe, tmp_path):
    (tmp_path / "downloads").write_text("")
    with pytest.raises(FetchError, match=r"data.bin cannot be written: File exists"):
        fetch.fetch(recipe)


def test_one_download_at_a_time(recipe, tmp_path):
    (tmp_path / "downloads").mkdir()
    with (tmp_path / "downloads/data.bin.part").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(FetchError, match=r"is being downloaded by another process$"):
            fetch.fetch(recipe)


def test_where_files_are_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_ARENA_DATA", str(tmp_path / "ours"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    assert fetch.places() == [tmp_path / "ours/downloads", tmp_path / "ours", tmp_path / "torch"]
    (tmp_path / "torch/NATS").mkdir(parents=True)
    assert fetch.find_file({"file": "NATS"}) == tmp_path / "torch/NATS"
    assert fetch.find_file({"file": "packed", "also": ["NATS"]}) == tmp_path / "torch/NATS"
    assert fetch.find_file({"file": "none"}) is fetch.find_file({}) is None
    monkeypatch.delenv("NAS_ARENA_DATA")
    assert fetch.places() == [tmp_path / "torch/downloads", tmp_path / "torch"]
    monkeypatch.delenv("TORCH_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert fetch.places()[-1] == tmp_path / ".torch"


# -------------------------------------------------------------------------- the command line


def call(capsys, *words):
    with pytest.raises(SystemExit) as raised:
        cli.main(["data", *words])
    out, err = capsys.readouterr()
    return raised.value.code or 0, out, err


@pytest.fixture
def known(recipe, monkeypatch):
    """Recipes with an address, with none, without a file, and of further columns."""
    notes = {"space": "nb201", "published": "by post", "licence": "MIT"}
    some = {
        "here": recipe | notes,
        "elsewhere": {key: recipe[key] for key in ("file", "megabytes")} | notes,
        "anything": notes,
        "columns": {"file": "data.bin", "extra": {}} | notes,
    }
    monkeypatch.setattr("bench.catalogue.recipes", lambda: some)
    monkeypatch.setitem(RECIPE, "url", (lambda value: True, "any"))
    return some


def test_get(known, capsys, tmp_path, server):
    status, out, err = call(capsys, "get", "here")
    assert (status, err) == (0, "")
    path = tmp_path / "downloads/data.bin"
    assert out == f"{path} is here; go on with: nas-arena data import here\n"
    assert call(capsys, "get", "here")[:2] == (0, out)
    assert len(server.asked) == 1  # it was not asked again
    assert "go on with: nas-arena data import columns --into TABLE" in call(
        capsys, "get", "columns"
    )[1]  # fmt: skip
    path.write_bytes(b"?")
    status, _, err = call(capsys, "get", "here")
    assert status == 2
    assert "is damaged or another version" in err


def test_get_says_what_to_put_where(known, capsys, tmp_path):
    status, out, err = call(capsys, "get", "elsewhere")
    assert (status, err) == (1, "")
    assert out == (
        "elsewhere has no address to download from.\n"
        "  1. get it: by post\n"
        f"  2. put data.bin into {tmp_path}/downloads\n"
        "  3. nas-arena data import elsewhere\n"
    )
    assert "3. nas-arena data import anything FILE" in call(capsys, "get", "anything")[1]


def test_get_complains(known, capsys, server):
    known["here"]["url"] += "s"
    assert call(capsys, "get", "here")[0] == 1
    status, _, err = call(capsys, "get", "none")
    assert status == 2
    assert "download; known: here, elsewhere, anything, columns, cifar10," in err
    known["here"]["file"] = "../data.bin"
    status, _, err = call(capsys, "get", "here")
    assert status == 2
    assert "file is '../data.bin'; allowed: the name of the published file" in err


def test_an_import_finds_the_file(recipe, capsys, tmp_path):
    status, _, err = call(capsys, "import", "hw_nas_bench", "--into", "nb201")
    assert status == 2
    assert f"HW-NAS-Bench-v1_0.pickle is in none of {tmp_path}/downloads, {tmp_path}, " in err
    assert "`nas-arena data get hw_nas_bench` brings it or says how" in err
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads/HW-NAS-Bench-v1_0.pickle").write_bytes(b"?")
    status, _, err = call(capsys, "import", "hw_nas_bench", "--into", "nb201")
    assert status == 2
    assert "HW-NAS-Bench-v1_0.pickle: damaged pickle" in err
    (tmp_path / "mine.yaml").write_text("space: nb201\n")
    status, _, err = call(capsys, "import", f"{tmp_path}/mine.yaml")
    assert status == 2
    assert "mine.yaml' names no file; say which one to read" in err


def test_a_fetch_error_is_a_table_error():
    assert issubclass(FetchError, TableError)
