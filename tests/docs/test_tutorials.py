"""The code of the documentation runs, and prints what the pages say."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

from spectrolabe.surveys import SURVEYS
from tests.docs.runner import blocks, figures, missing, run

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
TUTORIALS = sorted(DOCS.glob("tutorials/*.md"))
SKY = """
import subprocess, sys
from pathlib import Path
others = ("apogee", "galah", "desi", "gaia_rvs", "sdss_boss")
others = [f"surveys.{name}.share=0" for name in others]
subprocess.run([
    Path(sys.executable).with_name("spectrolabe"), "simulate", r"{root}/configs/sky.toml",
    "population.stars=8", "population.magnitude=[10.0,12.0]", "clusters.count=0",
    "binaries.count=0", "surveys.lamost_lrs.share=1", *others, "--output", "sky",
], check=True, capture_output=True)
spectra = sorted(Path("sky/lamost_lrs").glob("*/spec-*.fits.gz"))
"""
WEIGHTS = 'Path("weights").symlink_to(r"{root}/weights")\n'
CATALOGUE = """
import numpy as np
from astropy.table import Table
rng = np.random.default_rng(0)
values = dict(teff=4800.0, logg=2.5, fe_h=-0.1, mg_fe=0.05, c_fe=-0.1, n_fe=0.2)
errors = dict(teff=40.0, logg=0.05)
"""
PRELUDES = {  # what the pages take as given
    "../README.md": SKY + WEIGHTS + """
Path("spectra").mkdir()
Path("spec-55862-B6212_sp06-009.fits.gz").write_bytes(spectra[0].read_bytes())
for path in spectra:
    Path("spectra", path.name).write_bytes(path.read_bytes())
""",
    "ages.md": CATALOGUE + """
from spectrolabe.catalogue import write_catalogue
table = Table({name: [value] * 3 for name, value in values.items()})
for name in values:
    table[f"e_{name}"] = [errors.get(name, 0.03)] * 3
table["star_id"] = ["a", "b", "c"]
write_catalogue(table, "catalogue.parquet", {})
apogee = Table({name.upper(): [value] * 3 for name, value in values.items()})
for name in values:
    apogee[f"{name.upper()}_ERR"] = [errors.get(name, 0.03)] * 3
apogee.write("labels.csv")
""",
    "calibration.md": """
from astropy.table import Table
from spectrolabe.catalogue import write_catalogue
from tests.homogenise.made_up import made_up
_, labels, anchors = made_up({"fe_h": lambda teff, logg, fe_h: (teff - 5500) / 5000})
table = Table({"star_id": labels.star_id})
for i, name in enumerate(labels.names):
    table[f"raw_{name}"], table[f"raw_e_{name}"] = labels.values[:, i], labels.sigma[:, i]
table["flag_bad"] = False
write_catalogue(table, "catalogue.parquet", {})
known = anchors.reference
table = Table({"star_id": known.star_id, "group": anchors.group, "kind": anchors.kind})
for i, name in enumerate(known.names):
    table[name], table[f"e_{name}"] = known.values[:, i], known.sigma[:, i]
table.write("anchors.csv")
""",
    "distances.md": """
import numpy as np
from spectrolabe.models.posterior import LabelPosterior
k, e_k, a_k = np.array([8.0, 10.0]), np.full(2, 0.03), np.full(2, 0.02)
plx, e_plx = np.array([2.0, -0.1]), np.full(2, 0.05)
posterior = LabelPosterior.independent(("abs_mag_k",), [[-1.5], [3.0]], [[0.2], [0.3]], ["a", "b"])
""",
    "emulator.md": """
import numpy as np
from pathlib import Path
wavelength = np.linspace(5100.0, 5200.0, 400)
""" + WEIGHTS,
    "explorer.md": SKY + """
import spectrolabe as sl
sl.predict("default", spectra, "catalogue.parquet")
Path("sky/lamost_lrs").rename("spectra")
""",
    "fit.md": SKY + WEIGHTS + 'Path("star.fits").write_bytes(spectra[0].read_bytes())\n',
    "homogenise.md": CATALOGUE + """
for name, off in (("lamost.csv", 50.0), ("apogee.fits", 0.0)):
    teff = np.linspace(4500.0, 6500.0, 400)
    table = Table({"star_id": [f"s{i}" for i in range(400)], "teff": teff + off})
    table["teff"] += rng.normal(0.0, 30.0, 400)
    table["logg"], table["fe_h"] = rng.normal(4.4, 0.1, 400), rng.normal(0.0, 0.2, 400)
    for label, error in (("teff", 30.0), ("logg", 0.05), ("fe_h", 0.03)):
        table[f"e_{label}"] = error
    table.write(name)
""",
    "sky.md": SKY + """
import spectrolabe as sl
sl.predict("default", spectra, "catalogue.parquet")
""",
    "validate.md": SKY + """
import spectrolabe as sl
sl.predict("default", spectra, "catalogue.parquet")
""",
}  # fmt: skip

ELSEWHERE = {"cluster.md"}  # wants SLURM; `tests/inference/test_distributed.py` runs what it calls

COMPUTED = {
    "synthesis.md": "",
    "grids.md": """
import subprocess, sys
from pathlib import Path
Path("stars.csv").write_text("teff,logg,fe_h,v_micro\\n5800,4.4,0.0,1.0\\n")
subprocess.run([
    Path(sys.executable).with_name("spectrolabe"), "synthesise", "--labels", "stars.csv",
    "--range", "5180", "5186", "--differential", "--output", "stars.grid",
], check=True, capture_output=True)
""",
}


@pytest.fixture(autouse=True)
def _nothing_stays(monkeypatch):
    """No windows; and a survey that a page adds is gone afterwards."""
    monkeypatch.setenv("MPLBACKEND", "Agg")
    mpl.use("Agg")
    known = dict(SURVEYS)
    yield
    plt.close("all")
    SURVEYS.clear()
    SURVEYS.update(known)


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_runs_and_makes_its_figures(page, tmp_path):
    run(page, tmp_path)
    for name in figures(page.read_text(encoding="utf-8")):
        assert (tmp_path / name).stat().st_size > 1000
        assert (page.parent / "figures" / name).is_file(), "python -m tests.docs.runner makes it"


def test_the_home_page_runs(tmp_path):
    run(DOCS / "index.md", tmp_path)


@pytest.mark.parametrize("name", PRELUDES)
def test_python_of_a_guide_runs(name, tmp_path):
    run((DOCS / name).resolve(), tmp_path, PRELUDES[name].replace("{root}", str(ROOT)))


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPUTED)
def test_python_of_the_synthesis_runs(name, tmp_path):
    """Slow where the loops have not been compiled yet."""
    run(DOCS / name, tmp_path, COMPUTED[name])


def test_every_page_with_python_is_run():
    pages = [path for path in DOCS.glob("*.md") if path.name != "index.md"]
    with_python = {
        path.name
        for path in pages
        if any(block.language == "python" for block in blocks(path.read_text(encoding="utf-8")))
    }
    assert with_python == {*PRELUDES, *COMPUTED, *ELSEWHERE} - {"../README.md"}


def test_output_is_compared_by_its_words():
    printed = "a table\n┃ teff ┃ 5000.1 ┃\n│ logg │ -4.4 │\nlast line\n"
    assert missing("teff 4999\n...\nlast line", printed) is None
    assert missing("teff 4999 K", printed) == "teff # K"
    assert missing("last line\nteff 5000", printed) == "teff #"


def test_a_failing_page_says_where(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# P\n\n```console\necho one\nfalse\n```\n")
    with pytest.raises(AssertionError, match=r"page.md:4: exit code 1"):
        run(page, tmp_path)
    page.write_text('```python\nprint("a 1")\n```\n\n```text\nb 1\n```\n')
    with pytest.raises(AssertionError, match="not printed: b #"):
        run(page, tmp_path)
    page.write_text("text\n\n```python\n\n1 / 0\n```\n")
    with pytest.raises(ZeroDivisionError) as raised:
        run(page, tmp_path)
    assert raised.traceback[-1].lineno + 1 == 5


def test_blocks_with_a_title_are_files(tmp_path):
    page = tmp_path / "page.md"
    page.write_text('```toml title="a.toml"\nx = 1\n```\n\n```console\ncat a.toml\n```\n')
    run(page, tmp_path)
    assert (tmp_path / "a.toml").read_text() == "x = 1\n"
