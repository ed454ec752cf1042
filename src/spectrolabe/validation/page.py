"""A page that needs nothing else: text, tables and figures in one HTML file."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import numpy as np

from spectrolabe.errors import InputError
from spectrolabe.models.files import write_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "contents",
    "decimals",
    "figure_block",
    "folded",
    "heading",
    "number",
    "paragraph",
    "percent",
    "table_block",
    "with_error",
    "write_page",
]

DPI = 110
PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light; --ink: #1c2430; --soft: #5b6675; --line: #d9dee5; --head: #f3f5f8; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 66rem; padding: 1rem; color: var(--ink); background: #fff;
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; border-top: 1px solid var(--line);
  padding-top: 1.2rem; }
p { max-width: 46rem; margin: .6rem 0; overflow-wrap: anywhere; }
nav { columns: 15rem; margin: 1rem 0; }
nav a { display: block; padding: .15rem 0; color: #1f618d; }
figure { margin: 1rem 0; }
figure > div { overflow-x: auto; }
img { width: 100%; height: auto; display: block; }
@media (max-width: 44rem) { img { width: 44rem; max-width: none; } }
figcaption, caption { color: var(--soft); font-size: .9rem; max-width: 46rem; text-align: left; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { caption-side: top; padding-bottom: .4rem; }
th, td { padding: .25rem .6rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th { background: var(--head); font-weight: 600; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
th:first-child { background: var(--head); }
tr.own td { font-weight: 600; }
tr.first td { border-top: 2px solid var(--soft); }
summary { cursor: pointer; padding: .4rem 0; color: #1f618d; }
th { white-space: normal; vertical-align: bottom; }
th.text, td.text { text-align: left; white-space: normal; min-width: 20rem;
  overflow-wrap: anywhere; }
td.pass { background: #e3f2e6; }
td.warn { background: #fdf0cd; }
td.fail { background: #f9d9d5; }
</style>
</head>
<body>
<h1>$title</h1>
$body
</body>
</html>
""")


def heading(text: str, key: str = "") -> str:
    """Return a heading of a section; ``key`` is what `contents` leads to."""
    name = f' id="{escape(key)}"' if key else ""
    return f"<h2{name}>{escape(text)}</h2>"


def contents(sections: Mapping[str, str]) -> str:
    """Return a list of sections, titles by the keys of their headings."""
    links = (f'<a href="#{escape(key)}">{escape(text)}</a>' for key, text in sections.items())
    return f"<nav>{''.join(links)}</nav>"


def number(value: float, digits: int) -> str:
    """Return a number with so many decimals; a dash where there is none."""
    return f"{value:.{digits}f}".replace("-", "−") if np.isfinite(value) else "–"


def percent(share: float) -> str:
    """Return a share in per cent; a dash where there is none."""
    return f"{number(100 * share, 1)} %" if np.isfinite(share) else "–"


def with_error(value: float, error: float, digits: int) -> str:
    """Return a number with its standard error; a dash where there is none."""
    return f"{number(value, digits)} ± {number(error, digits)}" if np.isfinite(value) else "–"


def decimals(unit: str) -> int:
    """Return how many decimals a label of this unit is shown with."""
    return {"K": 1, "dex": 3, "mag": 3}.get(unit, 2)


def folded(title: str, blocks: Sequence[str]) -> str:
    """Return blocks that are hidden until the reader asks for them."""
    inner = "\n".join(blocks)
    return f"<details><summary>{escape(title)}</summary>\n{inner}\n</details>"


def paragraph(text: str) -> str:
    """Return a paragraph of plain text."""
    return f"<p>{escape(text)}</p>"


def table_block(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    caption: str = "",
    *,
    classes: Sequence[str] = (),
    marks: Sequence[Sequence[str]] = (),
) -> str:
    """Return a table that scrolls by itself where it is wider than the screen.

    Parameters
    ----------
    head : sequence of str, length C
    rows : sequence of sequence of str, each of length C
    caption : str
    classes : sequence of str
        One for each row: ``own`` makes it bold, ``first`` draws a line above; may be empty.
    marks : sequence of sequence of str
        One for each cell: ``pass``, ``warn`` and ``fail`` colour it, ``text`` lets it wrap.
    """
    for row in rows:
        if len(row) != len(head):
            raise InputError(
                "table", expected=f"{len(head)} cells a row", found=f"{len(row)}: {row}"
            )

    def line(cells: Sequence[str], tag: str, kind: str = "", mark: Sequence[str] = ()) -> str:
        names = [f' class="{name}"' if name else "" for name in mark or [""] * len(cells)]
        inner = "".join(
            f"<{tag}{name}>{escape(cell)}</{tag}>" for cell, name in zip(cells, names, strict=True)
        )
        return f'<tr class="{kind}">{inner}</tr>' if kind else f"<tr>{inner}</tr>"

    kinds = list(classes) or [""] * len(rows)
    left = ["text" if mark == "text" else "" for mark in marks[0]] if marks else []
    every = list(marks) or [()] * len(rows)
    body = "\n".join(
        line(row, "td", kind, mark) for row, kind, mark in zip(rows, kinds, every, strict=True)
    )
    above = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f'<div class="wide"><table>{above}<thead>{line(head, "th", mark=left)}</thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def figure_block(figure: Figure, caption: str) -> str:
    """Return a figure as an image inside the page; on a phone it scrolls by itself.

    Parameters
    ----------
    figure : matplotlib Figure
    caption : str
        Also the text for those who cannot see it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    stream = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(stream, dpi=DPI, format="png")
    data = base64.b64encode(stream.getvalue()).decode()
    return (
        f'<figure><div><img src="data:image/png;base64,{data}" alt="{escape(caption)}"></div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def write_page(path: str | Path, title: str, blocks: Sequence[str]) -> Path:
    """Write blocks as one page, whole or not at all.

    Parameters
    ----------
    path : str or Path
    title : str
    blocks : sequence of str
        HTML, as the other functions here return it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = PAGE.substitute(title=escape(title), body="\n".join(blocks))
    write_file(path, text.encode())
    return path
