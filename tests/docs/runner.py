"""Pages of the documentation as programs: their code blocks, run in order in one folder.

`python -m tests.docs.runner docs/tutorials/*.md` runs pages in temporary folders, and puts the
figures that they show, as their code made them, beside the pages.

- a block with a title is the file of that name: it is written
- ``python`` is run, all blocks of a page in one namespace
- ``console`` is run by bash, one command after the other; one that fails is an error
- ``text`` after one of these is what it prints, compared loosely: its lines must be among those
  printed, in this order, where numbers, spaces and rules of tables do not count. A line ``...``
  stands for any lines.
- everything else is for the reader
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", flags=re.M | re.S)
NUMBER = re.compile(r"[-+−]?\d[\d,]*\.?\d*(e[-+]?\d+)?|\bnan\b")
FIGURE = re.compile(r"!\[[^\]]*\]\(figures/([^)]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its title if any, its text, and the line where that begins."""

    language: str
    title: str
    text: str
    line: int


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page in their order."""
    found = []
    for match in FENCE.finditer(page):
        title = re.search(r'title="([^"]+)"', match[2])
        line = page.count("\n", 0, match.start(3)) + 1
        found.append(Block(match[1], title[1] if title else "", match[3], line))
    return found


def figures(page: str) -> list[str]:
    """The names of the figures that a page shows."""
    return FIGURE.findall(page)


def missing(shown: str, printed: str) -> str | None:
    """The first line of a page's output that was not printed after those before it."""
    lines = iter(_loose(printed))
    for line in _loose(shown):
        if line != "..." and line not in lines:  # `in` goes on where the last one was found
            return line
    return None


def _loose(text: str) -> list[str]:
    """Lines without what may differ from run to run."""
    plain = re.sub(r"[│┃╭╮╰╯━─┏┓┗┛┡┩└┘├┤┬┴┼╇╈|]", " ", text)
    lines = (re.sub(r"\s+", " ", NUMBER.sub("#", line)).strip() for line in plain.splitlines())
    return [line for line in lines if line and set(line) - set("- ")]


def run(path: Path, folder: Path, prelude: str = "") -> None:
    """Run a page in a folder, where files that it makes are left.

    Parameters
    ----------
    path : Path
        The page.
    folder : Path
    prelude : str
        Python that makes what the page takes as given.

    Raises
    ------
    AssertionError
        If a command fails or prints something else than the page says; what a block of Python
        raises comes through.
    """
    space: dict[str, Any] = {"__name__": "__main__"}
    printed = ""
    with contextlib.chdir(folder), _activated():
        _python(prelude, f"prelude of {path.name}", 0, space)
        for block in blocks(path.read_text(encoding="utf-8")):
            where = f"{path}:{block.line}"
            if block.title:
                Path(block.title).write_text(block.text, encoding="utf-8")
            elif block.language == "python":
                printed = _python(block.text, str(path), block.line - 1, space)
            elif block.language == "console":
                printed = _console(block.text, where)
            elif block.language == "text" and printed:
                lost = missing(block.text, printed)
                assert lost is None, f"{where}: not printed: {lost}\nprinted was:\n{printed}"
                printed = ""


@contextlib.contextmanager
def _activated() -> Iterator[None]:
    """The interpreter's own commands come first, as in an activated environment."""
    before = os.environ["PATH"]
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), before])
    try:
        yield
    finally:
        os.environ["PATH"] = before


def _python(code: str, name: str, before: int, space: dict[str, Any]) -> str:
    """Run code, whose errors name the line of the page; return what it prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile("\n" * before + code, name, "exec"), space)
    return out.getvalue()


def _console(code: str, where: str) -> str:
    """Run commands by the interpreter's own `spectrolabe`; return what they print."""
    done = subprocess.run(
        ["bash", "-euc", code], capture_output=True, text=True, env={**os.environ, "COLUMNS": "120"}
    )
    assert done.returncode == 0, f"{where}: exit code {done.returncode}\n{done.stderr}"
    return done.stdout


def main() -> None:
    """Run pages and renew their figures."""
    os.environ["MPLBACKEND"] = "Agg"
    for name in sys.argv[1:]:
        page = Path(name).resolve()
        with tempfile.TemporaryDirectory() as folder:
            run(page, Path(folder))
            for figure in figures(page.read_text(encoding="utf-8")):
                if (made := Path(folder, figure)).is_file():  # others are drawn by hand
                    shutil.copy(made, page.parent / "figures" / figure)


if __name__ == "__main__":
    main()
