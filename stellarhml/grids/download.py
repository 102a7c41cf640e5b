"""Download files over HTTP so that a cut costs nothing: parts are kept, continued, checked, and only then renamed."""

import http.client
import os
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote, urlsplit

from stellarhml.exceptions import DownloadError, SpectrumFileError

_CHUNK = 1 << 16  # bytes read at a time
_FIRST_PAUSE = 0.5  # seconds before the first retry; doubles with each
_USER_AGENT = "stellarhml (https://pypi.org/project/stellarhml)"
_TRANSIENT = (OSError, http.client.HTTPException)  # URLError, time-outs and reset connections are OSErrors


class NotOnServerError(Exception):
    """The server answered 404 or 410 for a file."""


class Downloader:
    """Fetch files of one server folder into one local folder, under the same relative names.

    Parameters
    ----------
    base_url : str
        Address of the folder on the server, http, https or ftp.
    folder : pathlib.Path
        Local folder.
    n_retries : int
        How often a failed request is made again.
    timeout : float
        Seconds without an answer after which a request counts as failed.
    """

    def __init__(self, base_url, folder, *, n_retries, timeout):
        if urlsplit(base_url).scheme not in ("http", "https", "ftp"):
            raise ValueError(
                f"`base_url` is {base_url!r}, but an address that begins with https://, http:// or ftp:// is needed."
            )
        if n_retries < 0 or timeout <= 0:
            raise ValueError(
                f"`n_retries` is {n_retries} and `timeout` {timeout}, but at least 0 and more than 0 are needed."
            )
        self.base_url = base_url.rstrip("/") + "/"
        self.folder = folder
        self.n_retries = n_retries
        self.timeout = timeout

    def url(self, name):
        """Address of a file."""
        return self.base_url + quote(Path(name).as_posix(), safe="/=+")

    def n_arrived(self, name):
        """Bytes of an unfinished download of a file."""
        part = self._part(name)
        return part.stat().st_size if part.is_file() else 0

    def size(self, name):
        """Size of a file in bytes as the server says it, or None if it does not."""

        def ask():
            try:
                with self._open(name, method="HEAD") as answer:
                    return _length(answer)
            except urllib.error.HTTPError as error:
                if error.code in (405, 501):  # the server does not know HEAD
                    error.close()
                    return None
                raise

        return self._persist(ask, name)

    def fetch(self, name, *, size, check, bar):
        """Download one file.

        Parameters
        ----------
        name : pathlib.Path
            Relative name.
        size : int or None
            Its length, if the server told it.
        check : callable
            Called with the path of the complete download; raises SpectrumFileError if its content is wrong.
        bar : object
            Its `update(n)` is called with the number of bytes that arrived.
        """
        part = self._part(name)
        part.parent.mkdir(parents=True, exist_ok=True)

        def attempt():
            length = self._continue(name, part, size, bar)
            arrived = part.stat().st_size
            if length is not None and arrived < length:
                raise _CutError(f"{arrived} of {length} bytes arrived")
            try:
                if length is not None and arrived > length:
                    raise SpectrumFileError(f"{arrived} bytes arrived, but the server announced {length}.")
                check(part)
            except SpectrumFileError:
                part.unlink()  # nothing to continue from
                raise
            os.replace(part, self.folder / name)

        self._persist(attempt, name)

    def _continue(self, name, part, size, bar):
        """Append to the part what is missing; return the length that the whole must have, or None."""
        start = part.stat().st_size if part.is_file() else 0
        if size is not None and start == size:
            return size
        if size is not None and start > size:
            part.unlink()
            start = 0
        try:
            answer = self._open(name, start=start)
        except urllib.error.HTTPError as error:
            if error.code != 416 or not start:
                raise
            error.close()  # the part does not fit this file: begin again
            part.unlink()
            start = 0
            answer = self._open(name)
        with answer:
            if start and not _continues(answer, start):
                bar.update(-min(start, bar.n))  # the server sends the whole file again
                start = 0
            length = _length(answer)
            with open(part, "ab" if start else "wb") as file:
                while piece := answer.read(_CHUNK):
                    file.write(piece)
                    bar.update(len(piece))
        return size if length is None else start + length

    def _open(self, name, *, method="GET", start=0):
        """Send a request, for the bytes from `start` on."""
        request = urllib.request.Request(self.url(name), method=method, headers={"User-Agent": _USER_AGENT})
        if start:
            request.add_header("Range", f"bytes={start}-")
        return urllib.request.urlopen(request, timeout=self.timeout)

    def _persist(self, action, name):
        """Call `action` until it works, at most `n_retries` times more; a last failure is a DownloadError."""
        for retry in range(self.n_retries + 1):
            if retry:
                time.sleep(_FIRST_PAUSE * 2 ** (retry - 1))
            try:
                return action()
            except urllib.error.HTTPError as error:
                error.close()
                if error.code in (404, 410):
                    raise NotOnServerError(self.url(name)) from None
                last = error
                if error.code < 500 and error.code not in (408, 429):
                    break  # the answer will be the same next time
            except (*_TRANSIENT, SpectrumFileError) as error:
                last = error
        reason = getattr(last, "reason", None) or last
        raise DownloadError(
            f"{self.url(name)} could not be downloaded in {retry + 1} attempts: {reason}. Check the network and call "
            f"again (what arrived is kept), or download the file by hand to {self.folder / name} and use "
            f"stellarhml.datasets.load_phoenix({str(self.folder)!r})."
        ) from last

    def _part(self, name):
        """Path of the unfinished download of a file."""
        path = self.folder / name
        return path.with_name(path.name + ".part")


class _CutError(OSError):
    """A transfer ended before the announced length."""


def _length(answer):
    """Length of the body that a server announced, or None."""
    text = answer.headers.get("Content-Length")
    return int(text) if text and text.isdigit() else None


def _continues(answer, start):
    """Whether an answer holds the bytes from `start` on, and not the whole file once more."""
    return answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {start}-")
