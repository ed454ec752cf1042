"""`spectrolabe explore` as a user meets it."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
from functools import partial
from urllib.parse import urlsplit

from astropy.table import Table

COMMAND = (sys.executable, "-c", "from spectrolabe.cli import main; main()", "explore")
ENVIRONMENT = {**os.environ, "COLUMNS": "150", "TERM": "dumb", "NO_COLOR": "1"}


def explore(*arguments):
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=100)


def test_it_serves_until_it_is_interrupted(fits):
    command = [*COMMAND, str(fits.path), "--spectra", str(fits.spectra)]
    # tests that are run in the background of a shell ignore Ctrl-C, and so would the command
    foreground = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT, preexec_fn=foreground
    )
    try:
        said = process.stdout.readline()
        (url,) = re.findall(r"http://\S+", said)
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        connection.request("GET", "/ids")
        assert connection.getresponse().read() == b'["star s0", "star s1", "star s2"]'
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()


def test_it_writes_a_page(fits, tmp_path):
    done = explore(fits.path, "--output", tmp_path / "page.html", "--stars", 2)
    assert done.returncode == 0, done.stderr
    assert "the spectra of 0 stars are in it" in done.stdout
    assert "star s1" in (tmp_path / "page.html").read_text("utf-8")


def test_mistakes_are_one_message(fits, tmp_path):
    Table({"a": [1]}).write(tmp_path / "a.fits")
    for arguments, message in (
        ([tmp_path / "a.fits"], "a.fits: expected a Spectrolabe catalogue"),
        ([fits.path, "--output", tmp_path / "page.pdf"], "expected a page"),
    ):
        done = explore(*arguments)
        assert done.returncode == 1
        assert message in done.stderr
        assert "Traceback" not in done.stderr
