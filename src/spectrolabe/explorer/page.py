"""The page: one HTML document that needs nothing from elsewhere, served or with its data in it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from spectrolabe.errors import InputError
from spectrolabe.explorer.data import Explored
from spectrolabe.models.files import write_file
from spectrolabe.progress import shown_progress

__all__ = ["MOST_BYTES", "MOST_ROWS", "build_page", "write_page"]

SCRIPTS = ("basics", "plot", "scatter", "spectrum", "posterior", "star", "stars", "main")
MOST_ROWS = 50_000  # of a page with all data in it
MOST_BYTES = 64_000_000  # from which on no further star is put into it


def build_page(name: str, data: Any = None) -> str:
    """Return the page.

    Parameters
    ----------
    name : str
        Of the catalogue.
    data : optional
        What a server would answer, by path; without it the page asks the server that it is from.
    """
    style = _text("page.css")
    script = '"use strict";\n' + "\n".join(_text(f"{part}.js") for part in SCRIPTS)
    policy = [
        "default-src 'none'",
        "connect-src 'self'",
        "img-src data: blob:",
        "base-uri 'none'",
        "form-action 'none'",
        f"script-src {_digest(script)}",
        f"style-src {_digest(style)}",
    ]
    held = ""
    if data is not None:
        text = json.dumps(data, allow_nan=False).replace("<", "\\u003c")  # no end of the element
        held = f'<script id="data" type="application/json">{text}</script>'
    return Template(_text("page.html")).substitute(
        title=escape(name), policy="; ".join(policy), style=style, script=script, data=held
    )


def _text(name: str) -> str:
    return files("spectrolabe.explorer").joinpath("web", name).read_text(encoding="utf-8")


def _digest(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def write_page(
    explored: Explored, path: str | Path, rows: Sequence[int] | None = None, stars: int = 30
) -> tuple[Path, int]:
    """Write a page that holds the catalogue and the spectra of some of its stars.

    Parameters
    ----------
    explored : Explored
    path : str or Path
        ``.html``.
    rows : sequence of int, optional
        Those whose spectra are in it; by default of the highest S/N.
    stars : int
        How many of them, fewer if the page would be of more than `MOST_BYTES`.

    Returns
    -------
    path : Path
    held : int
        Of how many stars it has spectra.

    Raises
    ------
    InputError
        If the catalogue has more than `MOST_ROWS` rows, the name does not end in ``.html``, or the
        page cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError(path, expected="a page, .html", found=repr(path.suffix))
    if len(explored) > MOST_ROWS:
        raise InputError(
            path,
            expected=f"a catalogue of at most {MOST_ROWS:,} rows",
            found=f"{len(explored):,}",
            fix="Leave --output out: the page is served then, of any size.",
        )
    data: dict[str, Any] = {"/ids": explored.ids()}
    about = explored.describe()
    kept = [k for k, name in enumerate(explored.columns) if not name.startswith("raw_")]
    about["columns"] = [about["columns"][k] for k in kept]
    for k, column in enumerate(kept):
        content = explored.column(explored.columns[column])
        data[f"/column/{k}"] = base64.b64encode(content).decode()
    held = _stars(explored, data, _best(explored) if rows is None else rows, stars)
    data["/catalogue"] = {**about, "held": held}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, build_page(explored.path.name, data).encode())
    return path, len(held)


def _best(explored: Explored) -> Iterable[int]:
    """Rows by S/N, the highest first."""
    if "snr" not in explored.names:
        return range(len(explored))
    snr = np.frombuffer(explored.column("snr"), dtype="<f4")
    order = np.argsort(-np.nan_to_num(snr, nan=-np.inf), kind="stable")
    return order.tolist()


def _stars(explored: Explored, data: dict[str, Any], rows: Iterable[int], most: int) -> list[int]:
    """Put stars into the data of a page while there is room."""
    room = MOST_BYTES - len(json.dumps(data))
    held: list[int] = []
    for row in shown_progress(iter(list(rows)[:most]), most, "stars", slow=True):
        star, model = explored.star(int(row)), explored.model(int(row))
        if not (star["spectra"] or model["spectra"]):
            continue
        room -= len(json.dumps(star)) + len(json.dumps(model))
        if room < 0:
            break
        data[f"/star/{row}"], data[f"/model/{row}"] = star, model
        held.append(int(row))
    return held
