"""A page holds all that was given, needs no other file, and draws stars where they are."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure

from spectrolabe.errors import InputError
from spectrolabe.labels import Labels
from spectrolabe.validation import figures
from spectrolabe.validation.page import (
    figure_block,
    heading,
    paragraph,
    table_block,
    write_page,
)
from spectrolabe.validation.truth import Compared

VOID = {"meta", "img"}


class Tree(HTMLParser):
    """Every tag that is opened is closed, in order; texts by tag."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: dict[str, list[str]] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.text.setdefault(self.open[-1], []).append(data)


def test_a_page_is_whole_and_stands_alone(tmp_path):
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([0, 1], [0, 1])
    blocks = [
        heading("Teff < 4250 K & more"),
        paragraph("a $price of 3 <b>"),
        table_block(["star", "Teff"], [["a", "5777"], ["b", "<x>"]], "Two", classes=["own", ""]),
        figure_block(figure, 'a "line"'),
    ]
    path = write_page(tmp_path / "new" / "page.html", "A & B", blocks)
    source = path.read_text(encoding="utf-8")
    tree = Tree()
    tree.feed(source)
    assert tree.open == []
    assert tree.text["h1"] == ["A & B"]
    assert tree.text["h2"] == ["Teff < 4250 K & more"]
    assert "a $price of 3 <b>" in tree.text["p"]
    assert tree.text["td"] == ["a", "5777", "b", "<x>"]
    (image,) = [attributes for tag, attributes in tree.tags if tag == "img"]
    assert image["alt"] == 'a "line"'
    data = image["src"].removeprefix("data:image/png;base64,")
    assert base64.b64decode(data).startswith(b"\x89PNG")
    assert not re.search(r'(src|href)="(?!data:)', source)
    assert "width=device-width" in source
    assert [p.name for p in path.parent.iterdir()] == ["page.html"]


def test_a_row_of_the_wrong_length_is_an_error():
    with pytest.raises(InputError, match="expected 2 cells a row, found 1"):
        table_block(["a", "b"], [["1"]])


NAMES = ("teff", "logg", "fe_h")


def _stars(survey: str, count: int, offset: float, seed: int) -> Compared:
    rng = np.random.default_rng(seed)
    truth = np.random.default_rng(0).uniform((4300, 1, -1), (7000, 5, 0.3), (count, 3))
    noise = rng.normal(size=(count, 3)) * (10.0, 0.01, 0.01)
    identity = np.array([f"s{i}" for i in range(count)])
    sigma = np.ones((count, 3))
    return Compared(
        survey,
        Labels(NAMES, truth, sigma, identity),
        Labels(NAMES, truth + offset * np.array([100.0, 0.1, 0.1]) + noise, sigma, identity),
        rng.uniform(20, 200, count),
        np.arange(count) >= count - 5,
        identity,
    )


@pytest.fixture
def stars():
    return {"galah": _stars("galah", 60, 1.0, 1), "lamost_lrs": _stars("lamost_lrs", 40, -1.0, 2)}


def test_differences_between_surveys_are_those_put_in(stars):
    figure, ((one, other, count, numbers),) = figures.paired(stars)
    assert (one, other) == ("galah", "lamost_lrs")
    assert count == 35  # of 40, five are flagged as bad
    np.testing.assert_allclose(numbers[::2], [200.0, 0.2, 0.2], rtol=0.1)
    np.testing.assert_allclose(numbers[1::2], np.array([10, 0.01, 0.01]) * np.sqrt(2), rtol=0.5)
    assert len(figure.axes) == 3


def test_stars_are_drawn_where_they_are(stars):
    figure = figures.one_to_one(stars)
    assert len(figure.axes) == 6
    good, bad = figure.axes[0].collections
    assert (len(good.get_offsets()), len(bad.get_offsets())) == (55, 5)
    offset = np.diff(np.asarray(good.get_offsets()), axis=1)
    assert abs(np.median(offset) - 100.0) < 5.0
    kiel = figures.kiel_diagrams(stars)
    drawn = np.asarray(kiel.axes[0].collections[0].get_offsets())
    np.testing.assert_allclose(drawn[:, 0], stars["galah"].truth["teff"])


def test_a_catalogue_without_results_is_drawn_empty(stars):
    one = stars["galah"]
    nothing = np.full(one.truth.values.shape, np.nan)
    empty = Labels(NAMES, nothing, nothing, one.truth.star_id)
    none = {"galah": Compared("galah", one.truth, empty, one.snr, one.bad, one.entry)}
    for figure in (
        figures.kiel_diagrams(none),
        figures.one_to_one(none),
        figures.by_signal(none),
        figures.paired(none)[0],
    ):
        assert "base64" in figure_block(figure, "nothing")
