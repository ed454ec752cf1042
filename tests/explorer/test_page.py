"""The page in a browser: it draws, finds, filters, remembers, and runs nothing of a catalogue."""

from __future__ import annotations

import re

import numpy as np
import pytest

from spectrolabe.catalogue import read_catalogue
from spectrolabe.errors import InputError
from spectrolabe.explorer import Explored, page, write_page
from tests.explorer.browser import CHROMIUM, Browser
from tests.explorer.conftest import NAME
from tests.validation.made_up import catalogue, true_labels, write

in_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")


@pytest.fixture(scope="module")
def browser():
    with Browser() as one:
        yield one


def text(browser, of):
    return browser.value(f"document.querySelector({of!r}).innerText")


def inked(browser, canvas):
    """How many different colours are on a canvas: more than two if something is drawn."""
    for _ in range(3):  # what is new is drawn in the next frame, or the one after a new size
        browser.value("new Promise((done) => requestAnimationFrame(() => done(true)))")
    return browser.value(
        f"new Set(new Uint32Array(document.querySelector({canvas!r}).getContext('2d')"
        f".getImageData(0, 0, 2000, 2000).data.buffer)).size"
    )


def place(browser, row):
    """Where a star is in the window."""
    return browser.value(
        f"(() => {{ const f = scatter.canvas.getBoundingClientRect(), of = (a) => "
        f"sky.columns.get(sky.axes[a])[{row}]; return [f.left + scatter.toX(of('x')), "
        f"f.top + scatter.toY(of('y'))]; }})()"
    )


@in_browser
def test_a_star_is_clicked_and_seen(browser, server, strange):
    table = read_catalogue(strange)
    browser.open(server.url)
    assert browser.state()["rows"] == browser.state()["shown"] == "3"
    assert inked(browser, "#scatter") > 4
    left, right, bottom, top = browser.value("scatter.view")
    assert left > table["teff"].max() > table["teff"].min() > right  # a Kiel diagram
    assert bottom > table["logg"].max() > table["logg"].min() > top
    assert browser.value("document.getElementById('star').hidden")
    browser.click(*place(browser, 2))
    browser.wait("document.documentElement.dataset.model === '1'")
    assert text(browser, "#name") == "star s2"
    name, value, sigma, unit, *_ = text(browser, "#labels tbody tr").split("\t")
    assert (name, unit) == ("Teff", "K")
    assert float(value) == pytest.approx(table["teff"][2], abs=0.5)
    assert float(sigma) == pytest.approx(table["e_teff"][2], abs=0.5)
    assert "only velocity, broadening and continuum" in text(browser, "#model-note")
    assert inked(browser, "#spectrum") > 20
    assert inked(browser, "#corner") > 20
    assert browser.complaints() == []
    assert {
        url.partition("/" + url.split("/", 3)[3])[0] for url in browser.asked() if "/star" in url
    } == {server.url.rstrip("/")}


@in_browser
def test_names_are_text(browser, server):
    browser.open(f"{server.url}#row=0")
    assert text(browser, "#name") == NAME
    assert text(browser, "h1") == browser.value("document.title") == "<b>strange.parquet"
    assert NAME in text(browser, "#stars tbody")
    assert browser.value("document.querySelectorAll('img, b, h1 *, h2 *').length") == 0
    dialogs = [e for e in browser.events if "javascriptDialog" in e.get("method", "")]
    assert dialogs == []
    assert browser.complaints() == []


@in_browser
def test_keys_step_and_the_address_keeps_all(browser, server):
    browser.open(f"{server.url}#row=0")
    for _ in range(2):
        browser.key("ArrowRight")
    browser.wait("document.documentElement.dataset.star === 'star s2'")
    browser.key("ArrowLeft")
    browser.wait("document.getElementById('name').innerText.startsWith('b\"')")
    browser.value("axis('x', 'snr')")
    browser.value("panel.element = 'fe_h', scatter.zoom(2)")
    browser.wait("location.hash.includes('x=snr') && location.hash.includes('star=b%22')")
    view, address = browser.value("scatter.view"), browser.value("location.href")
    browser.open(address)
    np.testing.assert_allclose(browser.value("scatter.view"), view, rtol=1e-4)
    assert browser.value("sky.axes.x") == "snr"
    assert text(browser, "#name").startswith("b\"'`;")


@in_browser
def test_two_fingers_zoom_and_one_moves(browser, server):
    browser.open(server.url, width=400, height=800)
    x, y = browser.value(
        "(() => { const f = scatter.canvas.getBoundingClientRect(); "
        "return [f.left + f.width / 2, f.top + f.height / 2]; })()"
    )
    before = browser.value("scatter.view")
    middle = (before[0] + before[1]) / 2
    seen = browser.value(f"scatter.toX({middle})")
    browser.touch(((x - 30, y), (x - 60, y)), ((x + 30, y), (x + 60, y)))
    after = browser.value("scatter.view")
    assert (after[0] - after[1]) / (before[0] - before[1]) == pytest.approx(0.5, abs=0.01)
    assert (after[3] - after[2]) / (before[3] - before[2]) == pytest.approx(0.5, abs=0.01)
    assert browser.value(f"scatter.toX({middle})") == pytest.approx(seen, abs=40)  # pixels
    browser.touch(((x, y), (x + 50, y)))
    moved = browser.value("scatter.view")
    assert moved[0] - moved[1] == pytest.approx(after[0] - after[1])
    assert moved[0] != pytest.approx(after[0])
    assert browser.value("document.getElementById('star').hidden")  # nothing was clicked
    assert browser.complaints() == []


@in_browser
def test_a_missing_file_is_said(browser, server):
    browser.open(f"{server.url}#row=1")
    assert "gone.fits" in text(browser, "#spectrum-note")
    assert "--spectra" in text(browser, "#spectrum-note")
    assert "LOW_SNR" in text(browser, "#warnings")
    assert browser.value("document.getElementById('spectrum').offsetParent") is None
    browser.open(f"{server.url}#star=nobody")
    assert "nobody" in text(browser, "#hint")


@in_browser
def test_filters_and_search(browser, server, strange):
    table = read_catalogue(strange)
    browser.open(f"{server.url}#hide=4")
    assert browser.state()["shown"] == "2"
    limit = float(np.sort(table["teff"])[1])
    browser.open(f"{server.url}#range=teff,,{limit - 1}")
    assert browser.state()["shown"] == "1"
    browser.value("$('search').value = 'STAR S', stars.draw(scatter)")
    assert browser.value("$('stars').querySelectorAll('tbody tr').length") == 1
    browser.value("window.saved = ''; download = (name, content) => { window.saved = content; }")
    browser.open(f"{server.url}#hide=0")
    browser.value("download = (name, content) => { window.saved = content; }, $('save').click()")
    lines = browser.value("window.saved").splitlines()
    assert lines[0] == "row,star_id"
    assert lines[1] == f'0,"{NAME}"'
    assert lines[2] == '1,"b""\'`;\\ ✳"'
    assert len(lines) == 4


@in_browser
@pytest.mark.parametrize(("width", "dark"), [(1100, False), (400, False), (400, True)])
def test_everything_fits_the_window(browser, server, width, dark):
    browser.open(f"{server.url}#row=0", width=width, dark=dark)
    browser.wait("document.documentElement.dataset.model === '1'")
    assert browser.value("document.documentElement.scrollWidth") <= width
    outside = browser.value(
        "[...document.querySelectorAll('canvas, button, select, input, h2, p')].filter((one) => "
        "one.offsetParent && one.getBoundingClientRect().right > innerWidth + 1).map((o) => o.id)"
    )
    assert outside == []
    paper = browser.value("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(18, 23, 30)" if dark else "rgb(255, 255, 255)")


@in_browser
def test_the_nearest_star_is_found_among_many(browser, tmp_path):
    values = true_labels(2000)
    path = write(catalogue(values, "x", [f"s{i}" for i in range(2000)]), tmp_path / "a.parquet")
    written, held = write_page(Explored(path), tmp_path / "page.html")
    assert held == 0
    browser.open(written.as_uri())
    assert browser.state()["shown"] == "2000"
    rng = np.random.default_rng(0)
    box = browser.value("scatter.box")
    view = np.array(browser.value("scatter.view"))
    x = box["x"] + box["w"] * (values[:, 0] - view[0]) / (view[1] - view[0])
    y = box["y"] + box["h"] * (1 - (values[:, 1] - view[2]) / (view[3] - view[2]))
    for _ in range(20):
        at = rng.uniform((80, 20), (300, 300))
        far = np.hypot(x - at[0], y - at[1])
        found = browser.value(f"scatter.near({at[0]}, {at[1]}, 12, 3)")
        assert found == [row for row in np.argsort(far)[:3].tolist() if far[row] <= 12]


@in_browser
def test_a_page_with_its_own_data(browser, fits, explored, tmp_path):
    path, held = write_page(explored, tmp_path / "new" / "page.html", rows=[2, 0], stars=1)
    assert held == 1
    browser.open(f"{path.as_uri()}#star=star s2")
    browser.wait("document.documentElement.dataset.model === '1'")
    assert inked(browser, "#spectrum") > 20
    assert text(browser, "#name") == "star s2"
    browser.key("ArrowLeft")
    browser.wait("document.getElementById('name').innerText === 'star s1'")
    assert "holds the spectra of 1 stars" in text(browser, "#spectrum-note")
    rows = browser.value(
        "[...$('labels').querySelectorAll('tbody tr')].map((one) => one.innerText)"
    )
    table = read_catalogue(fits.path)
    for row, name in zip(rows, ("teff", "logg", "fe_h"), strict=False):
        value = float(row.split("\t")[1].replace("−", "-"))
        assert value == pytest.approx(table[name][1], abs=0.1 * float(table[f"e_{name}"][1]))
    assert browser.complaints() == []
    assert [
        url for url in browser.asked() if not url.startswith(("file:", "data:", "about:"))
    ] == []


def test_what_cannot_be_a_page(explored, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="a page"):
        write_page(explored, tmp_path / "page.pdf")
    monkeypatch.setattr(page, "MOST_ROWS", 2)
    with pytest.raises(InputError, match="at most 2 rows, found 3"):
        write_page(explored, tmp_path / "page.html")


def test_a_page_does_not_grow_beyond_its_limit(explored, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "MOST_BYTES", 150_000)
    path, held = write_page(explored, tmp_path / "page.html")
    assert 0 < held < 3
    assert path.stat().st_size < 150_000 + 80_000  # and what the page is without data


def test_no_markup_is_made_of_text():
    for part in page.SCRIPTS:
        code = page._text(f"{part}.js")
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", code
        )
    html = page.build_page("</title><script>", {"/ids": ["</script><img src=x>"]})
    assert html.count("</script>") == 2
    assert "&lt;/title&gt;&lt;script&gt;" in html
    assert not re.search(r'(?:src|href)="(?!data:)', html)
