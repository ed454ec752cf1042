"""The server answers this machine alone, only reads, and takes no path for a file."""

from __future__ import annotations

import http.client
import json
import socket

import numpy as np
import pytest

from spectrolabe.catalogue import read_catalogue
from spectrolabe.errors import InputError
from spectrolabe.explorer import Explored, Explorer
from tests.explorer.conftest import NAME


def asked(server, path, method="GET", host=None, body=None):
    """Status, headers and content of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host or f"127.0.0.1:{server.server_port}")
    connection.endheaders(body)
    answer = connection.getresponse()
    return answer.status, dict(answer.headers), answer.read()


def test_what_it_answers(server, strange):
    table = read_catalogue(strange)
    status, headers, page = asked(server, "/")
    assert status == 200
    assert headers["Content-Type"].startswith("text/html")
    assert b"&lt;b&gt;strange.parquet" in page
    assert b"<b>strange" not in page
    about = json.loads(asked(server, "/catalogue")[2])
    assert about["rows"] == 3
    assert json.loads(asked(server, "/ids")[2])[0] == NAME
    k = [one["name"] for one in about["columns"]].index("teff")
    values = np.frombuffer(asked(server, f"/column/{k}")[2], dtype="<f4")
    assert values.tolist() == table["teff"].tolist()
    star = json.loads(asked(server, "/star/1")[2])
    assert star["star_id"] == "b\"'`;\\ ✳"
    assert "gone.fits" in star["note"]
    assert json.loads(asked(server, "/model/1")[2])["spectra"] == []
    assert asked(server, "/", host=f"localhost:{server.server_port}")[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/star/3", "/star/-1", "/star/1/", "/star/1?x=1", "/star/999999999999", "/star/%D9%A1",
        "/column/9999", "/model/3", "/nothing", "/../cat.parquet", "/page.css",
        "/%2e%2e/etc/passwd", "/etc/passwd", "http://127.0.0.1/star/1", "/ids/1", "/column/",
    ],
)  # fmt: skip
def test_nothing_else_is_there(server, path):
    status, _, content = asked(server, path)
    assert status == 404
    assert content == b"nothing is there\n"


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil", " "]
)
@pytest.mark.parametrize("path", ["/", "/catalogue", "/star/0"])
def test_another_name_of_this_machine_is_refused(server, host, path):
    status, _, content = asked(server, path, host=host)
    assert status == 403
    assert b"star" not in content


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "FOO"])
def test_it_can_only_be_read(server, method):
    status, headers, _ = asked(server, "/catalogue", method=method)
    assert status == 405
    assert headers["Allow"] == "GET"


def test_other_pages_get_nothing(server):
    headers = asked(server, "/star/0")[1]
    assert "Access-Control-Allow-Origin" not in headers
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"


def test_it_listens_on_this_machine_alone(server):
    assert server.server_address[0] == "127.0.0.1"
    assert server.url == f"http://127.0.0.1:{server.server_port}/"


def test_a_port_that_is_taken(fits, server):
    with pytest.raises(InputError, match=f"a free port, found {server.server_port}"):
        Explorer(Explored(fits.path), server.server_port)


def test_a_client_that_goes_away_does_no_harm(server):
    with socket.create_connection(("127.0.0.1", server.server_port)) as one:
        one.sendall(f"GET /ids HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\n\r\n".encode())
    assert asked(server, "/ids")[0] == 200
