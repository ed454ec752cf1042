"""A server of one catalogue for the browser of this machine: read only, no path is a file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from spectrolabe.errors import InputError
from spectrolabe.explorer.data import Explored
from spectrolabe.explorer.page import build_page

__all__ = ["Explorer", "serve"]

HERE = "127.0.0.1"
WANTED = re.compile(r"/(?:(catalogue|ids)|(column|star|model)/([0-9]{1,9}))?")
JSON, BYTES, HTML = "application/json", "application/octet-stream", "text/html; charset=utf-8"


class Explorer(ThreadingHTTPServer):
    """A server that answers this machine alone; `serve_forever` runs it.

    Parameters
    ----------
    explored : Explored
    port : int
        0 for any that is free.

    Raises
    ------
    InputError
        If the port is taken or not allowed.
    """

    daemon_threads = True

    def __init__(self, explored: Explored, port: int = 0) -> None:
        self.explored = explored
        self.html = build_page(explored.path.name).encode()
        try:
            super().__init__((HERE, port), _Handler)
        except (OSError, OverflowError) as error:
            raise InputError(
                "--port", expected="a free port", found=f"{port}: {error}", fix="Leave it out."
            ) from error
        names = (HERE, "localhost")
        self.hosts = {f"{name}:{self.server_port}" for name in names}

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{HERE}:{self.server_port}/"

    def answer(self, path: str) -> tuple[str, bytes] | None:
        """Return type and content of what a path stands for, None if for nothing.

        Parameters
        ----------
        path : str
            ``/``, ``/catalogue``, ``/ids``, ``/column/K``, ``/star/ROW`` or ``/model/ROW``.
        """
        found = WANTED.fullmatch(path)
        if found is None:
            return None
        data, whole, part = self.explored, found[1], found[2]
        if part is None:
            if whole is None:
                return HTML, self.html
            return JSON, _json(data.ids() if whole == "ids" else data.describe())
        number = int(found[3])
        if number >= (len(data.columns) if part == "column" else len(data)):
            return None
        if part == "column":
            return BYTES, data.column(data.columns[number])
        asked: Callable[[int], dict[str, Any]] = data.star if part == "star" else data.model
        return JSON, _json(asked(number))


def _json(content: Any) -> bytes:
    return json.dumps(content, allow_nan=False).encode()


class _Handler(BaseHTTPRequestHandler):
    server: Explorer
    server_version = "spectrolabe"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer, if it is this machine that asks by its own name."""
        # a page of elsewhere whose name points to this machine still sends its own name
        if self.headers.get("Host") not in self.server.hosts:
            self._send(403, "text/plain", b"only 127.0.0.1 and localhost are answered\n")
            return
        try:
            found = self.server.answer(self.path)
        except InputError as error:
            self._send(500, "text/plain; charset=utf-8", str(error).encode())
            return
        if found is None:
            self._send(404, "text/plain", b"nothing is there\n")
        else:
            self._send(200, *found)

    def parse_request(self) -> bool:
        """Refuse whatever would not only read."""
        understood = super().parse_request()
        if understood and self.command != "GET":
            self._send(405, "text/plain", b"this server can only be read\n")
            return False
        return understood

    def _send(self, status: int, kind: str, content: bytes) -> None:
        self.close_connection = True
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(content))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("X-Frame-Options", "DENY"),
        ):
            self.send_header(name, value)
        if status == 405:
            self.send_header("Allow", "GET")
        self.end_headers()
        if self.command != "HEAD":
            with suppress(ConnectionError):  # the page has gone on to another star
                self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the terminal is for what matters."""


def serve(
    catalogue: str | Path,
    spectra: Sequence[str | Path] = (),
    *,
    port: int = 0,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve the page of a catalogue on this machine until interrupted.

    Parameters
    ----------
    catalogue : str or Path
        Of `predict` or `fit`: Parquet, FITS or HATS.
    spectra : sequence of str or Path
        Folders with the files of its stars.
    port : int
        0 for any that is free.
    ready : callable, optional
        Called with the address when it is there; by default it is printed.

    Raises
    ------
    InputError
        If the catalogue cannot be read, a folder is missing, or the port is taken.
    """
    with Explorer(Explored(catalogue, spectra), port) as server:
        (ready or print)(server.url)
        with suppress(KeyboardInterrupt):
            server.serve_forever()
