"""Download a published file: resumable, checked, and in its place only when it is whole."""

import fcntl
import os
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO, Any

from bench.data import Progress, silent
from bench.table import TableError, data_folder, sha256

SAFE: str | tuple[str, ...] = "https://"  # how an address begins that nobody can tamper with
PIECE = 1 << 20  # bytes read at a time
PATIENCE = 60  # seconds without a byte
SLACK = 1.1  # how much larger a file may be than its recipe says
AGAIN = "run the same command again to go on"


class FetchError(TableError):
    """A download that did not come to its end; the message is one sentence."""


class UnreachableError(FetchError):
    """No server that has the file."""


class OnlyHttps(urllib.request.HTTPRedirectHandler):
    """Follows a redirection only to another address that is `SAFE`."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if not newurl.startswith(SAFE):
            raise FetchError(f"{req.full_url} leads to {newurl}, which is no https address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download_folder() -> Path:
    """Where published files are kept until they are imported."""
    return data_folder() / "downloads"


def places() -> list[Path]:
    """The folders where published files are looked for, the customary one of NATS-Bench last."""
    torch_home = Path(os.environ.get("TORCH_HOME") or Path.home() / ".torch").expanduser()
    return list(dict.fromkeys([download_folder(), data_folder(), torch_home]))


def find_file(recipe: Mapping[str, Any]) -> Path | None:
    """The published file or folder of a recipe, by any of its names, if it is in the `places`."""
    names = [recipe["file"], *recipe.get("also", [])] if "file" in recipe else []
    paths = (folder / name for name in names for folder in places())
    return next((path for path in paths if path.exists()), None)


def fetch(recipe: Mapping[str, Any], *, progress: Progress = silent) -> Path:
    """Download the file that a recipe gives an address for into the download folder.

    What a broken download left is gone on with, if the server still has the same file. The
    file gets its name when it is whole and its digest is the one that the recipe expects.

    Raises:
        FetchError: no connection, no such file, a full disk, or another file than expected.
    """
    url, path = str(recipe["url"]), download_folder() / str(recipe["file"])
    if not url.startswith(SAFE):
        raise FetchError(f"{url} is no https address")
    part, expected = path.with_name(f"{path.name}.part"), recipe.get("source_sha256")
    limit = recipe["megabytes"] * 1e6 * SLACK + PIECE if "megabytes" in recipe else None
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        with part.open("ab") as file:
            _lock(file, path)
            try:
                _download(url, file, part, expected, limit, progress)
            except UnreachableError as error:
                raise FetchError(
                    f"{error}; try again, or get {path.name} elsewhere and put it into "
                    f"{path.parent}"
                ) from None
            os.fsync(file.fileno())
            _check(url, part, expected)
            part.replace(path)
            _version(part).unlink(missing_ok=True)
    except OSError as error:
        raise FetchError(
            f"{path} cannot be written: {error.strerror or error}; make room or choose another "
            f"folder with NAS_ARENA_DATA, and {AGAIN}"
        ) from None
    finally:
        if part.is_file() and not part.stat().st_size:
            part.unlink()
            _version(part).unlink(missing_ok=True)
    return path


def _version(part: Path) -> Path:
    """The file beside an unfinished one that holds what the server calls its version."""
    return part.with_suffix(".version")


def _lock(file: IO[bytes], path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise FetchError(f"{path} is being downloaded by another process") from None


def _download(
    url: str,
    file: IO[bytes],
    part: Path,
    expected: str | None,
    limit: float | None,
    progress: Progress,
) -> None:
    """Bring an unfinished file to its end; `file` is `part`, open for appending."""
    known = _version(part).read_text() if _version(part).is_file() else ""
    start = file.tell() if known or expected else 0
    answer = _ask(url, start, known)
    if answer is None:  # there is nothing after `start`
        if expected and sha256(part) == expected:
            return
        start, answer = 0, _ask(url, 0, "")
        if answer is None:
            raise FetchError(f"{url} gives no file")
    with answer:
        if answer.status != 206:
            start = 0
        size = _size(url, answer, start)
        room = shutil.disk_usage(part.parent).free
        if limit and (size or 0) > limit:
            raise FetchError(f"{url} gives {size or 0:,} bytes, more than the file should have")
        if size and size - start > room:
            raise FetchError(
                f"{part.parent} has room for {room / 1e6:,.0f} MB and {(size - start) / 1e6:,.0f} "
                "MB are to come; make room or choose another folder with NAS_ARENA_DATA"
            )
        if not start:
            file.truncate(0)
            _version(part).write_text(_name_of_version(answer))
        for piece in progress(_pieces(answer, url), size and -(-(size - start) // PIECE)):
            file.write(piece)
            if limit and file.tell() > limit:
                file.truncate(0)
                raise FetchError(f"{url} gives more than the {limit:,.0f} bytes that it may")
        file.flush()
    if size and file.tell() != size:
        raise FetchError(f"{url} ended after {file.tell():,} of {size:,} bytes; {AGAIN}")


def _ask(url: str, start: int, version: str) -> HTTPResponse | None:
    """The server's answer from byte `start` on; nothing where the file is not that long."""
    headers = {"User-Agent": "nas-arena", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if version:
            headers["If-Range"] = version
    request = urllib.request.Request(url, headers=headers)
    try:
        answer: HTTPResponse = urllib.request.build_opener(OnlyHttps).open(
            request, timeout=PATIENCE
        )
    except urllib.error.HTTPError as error:
        if start and error.code == 416:
            return None
        raise UnreachableError(f"{url} answers {error.code} {error.reason}") from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise UnreachableError(
            f"{url} cannot be reached ({getattr(reason, 'strerror', None) or reason}), perhaps "
            "for lack of a connection to the internet"
        ) from None
    return answer


def _size(url: str, answer: HTTPResponse, start: int) -> int | None:
    """How long the whole file is, where the server says so."""
    length = answer.headers.get("Content-Length", "")
    if answer.status == 206:
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
        if span is None or int(span[1]) != start:
            raise FetchError(f"{url} gives another part of the file than was asked for")
        if span[2] != "*":
            return int(span[2])
    return start + int(length) if re.fullmatch(r"\d{1,15}", length) else None


def _name_of_version(answer: HTTPResponse) -> str:
    """What the server calls this version of the file, if a resumed download can refer to it."""
    etag: str = answer.headers.get("ETag", "")
    return etag if etag.startswith('"') else answer.headers.get("Last-Modified", "")


def _pieces(answer: HTTPResponse, url: str) -> Iterator[bytes]:
    while True:
        try:
            piece = answer.read(PIECE)
        except (OSError, HTTPException) as error:
            raise FetchError(f"the connection to {url} broke ({error}); {AGAIN}") from None
        if not piece:
            return
        yield piece


def _check(url: str, part: Path, expected: str | None) -> None:
    digest = sha256(part)
    if expected and digest != expected:
        part.unlink()
        _version(part).unlink(missing_ok=True)
        raise FetchError(
            f"{url} gives another file than expected: its SHA-256 is {digest[:12]}…, not "
            f"{expected[:12]}…; it was removed"
        )
