"""Catalogues in HATS and the words of the Virtual Observatory, as other readers see them."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.io.votable.ucd import parse_ucd
from astropy.table import Table

from spectrolabe.catalogue import CatalogueWriter, read_catalogue, write_catalogue
from spectrolabe.catalogue.schema import FIT, IDENTITY, catalogue_columns
from spectrolabe.catalogue.ucds import ucd_of
from spectrolabe.errors import InputError
from spectrolabe.labels import LABELS
from tests.test_catalogue import build

SEEN = [name for name in LABELS if name not in FIT]


def placed(stars, first=0):
    rng = np.random.default_rng(first)
    return build(stars, first, ra=rng.uniform(0, 360, stars), dec=rng.uniform(-80, 80, stars))


def test_every_column_of_a_catalogue_has_a_word_that_the_list_has():
    names = [one for one in SEEN if one not in IDENTITY]
    for column in catalogue_columns(names, tuple(IDENTITY), fit=True):
        assert ucd_of(column.name), column.name
        parse_ucd(ucd_of(column.name), check_controlled_vocabulary=True)
    assert ucd_of("raw_e_teff") == "stat.error;phys.temperature.effective"
    assert ucd_of("homogenised_e_fe_h") == "stat.error;phys.abund.Fe"
    assert ucd_of("homogenised_mg_fe") == "phys.abund"
    assert ucd_of("colour_of_their_eyes") == ""


def test_topcat_finds_words_in_fits_and_votables_in_parquet(tmp_path):
    table = placed(3)
    write_catalogue(table, tmp_path / "a.fits", {})
    header = fits.getheader(tmp_path / "a.fits", 1)
    column = table.colnames.index("logg") + 1
    assert header[f"TUCD{column}"] == "phys.gravity"
    write_catalogue(table, tmp_path / "a.parquet", {})
    found = Table.read(tmp_path / "a.parquet", format="parquet.votable")
    assert found["logg"].meta["ucd"] == "phys.gravity"


def test_hats_is_read_by_lsdb_and_by_us(tmp_path):
    lsdb = pytest.importorskip("lsdb")
    path = tmp_path / "stars.hats"
    writer = CatalogueWriter(path, {"model": "m"})
    writer.begin()
    writer.write(0, placed(30))
    writer.write(1, placed(50, 30))
    writer.finish({"note": "it's = done"})
    assert [one.name for one in tmp_path.iterdir()] == ["stars.hats"]
    ours = read_catalogue(path)
    assert ours.meta["provenance"] == {"model": "m", "note": "it's = done"}
    assert str(ours["teff"].unit) == "K"
    assert ours["teff"].description == "Effective temperature"
    assert ours.colnames == placed(1).colnames
    whole = {row["star_id"]: row["teff"] for part in (placed(30), placed(50, 30)) for row in part}
    assert {row["star_id"]: row["teff"] for row in ours} == whole
    theirs = lsdb.open_catalog(path)
    described = pq.read_schema(path / "stars" / "dataset" / "_common_metadata").field("teff")
    assert described.metadata[b"ucd"] == b"phys.temperature.effective"
    frame = theirs.compute()
    assert dict(zip(frame["star_id"], frame["teff"], strict=True)) == whole


def test_partitions_have_margins(tmp_path, monkeypatch):
    """Sixty stars in a tenth of a degree about a corner of partitions."""
    lsdb = pytest.importorskip("lsdb")
    original = lsdb.from_dataframe
    monkeypatch.setattr(
        lsdb, "from_dataframe", lambda *x, **how: original(*x, **how, partition_rows=20)
    )
    table, rng = placed(60), np.random.default_rng(1)
    table["ra"], table["dec"] = 45.0 + rng.uniform(-0.002, 0.002, (2, 60))
    table["dec"] -= 45.0
    write_catalogue(table, tmp_path / "a.hats", {})
    found = lsdb.open_catalog(tmp_path / "a.hats")
    assert len(found.get_healpix_pixels()) > 1
    assert len(found.margin.compute()) > 0
    assert len(found.compute()) == len(read_catalogue(tmp_path / "a.hats")) == 60


def test_what_cannot_become_hats(tmp_path):
    pytest.importorskip("lsdb")
    path = tmp_path / "stars.hats"
    with pytest.raises(InputError, match="columns ra and dec"):
        write_catalogue(build(3), path, {})
    lost = placed(3)
    lost["dec"][1] = np.nan
    with pytest.raises(InputError, match="1 rows without"):
        write_catalogue(lost, path, {})
    assert not list(tmp_path.iterdir())
    write_catalogue(placed(3), path, {})
    with pytest.raises(InputError, match="no folder of that name"):
        CatalogueWriter(path, {})
    (path / "stars" / "hats.properties").unlink()
    with pytest.raises(InputError, match="a Spectrolabe catalogue"):
        read_catalogue(path)
