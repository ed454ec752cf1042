"""Files in, fits out: rows, starts, bad stars, interruption, model spectra and figures."""

from __future__ import annotations

import csv
from types import SimpleNamespace

import matplotlib.image
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from numpy.testing import assert_allclose, assert_array_equal

import spectrolabe as sl
from spectrolabe.catalogue import LabelFlag, ResultFlag, read_catalogue
from spectrolabe.errors import InputError
from spectrolabe.inference import fit_run as module
from spectrolabe.inference.fit_files import StarFiles
from spectrolabe.inference.fit_options import (
    parse_fixed,
    parse_labels,
    parse_model_error,
    parse_priors,
)
from spectrolabe.inference.fit_plot import Head, driving_lines, plot_fit
from spectrolabe.inference.fit_rows import star_velocity
from spectrolabe.inference.fit_run import fit_files
from spectrolabe.inference.fit_spectra import FittedSpectrum
from spectrolabe.inference.fit_start import TableStart, start_from
from spectrolabe.inference.line_errors import line_error
from spectrolabe.models import released
from spectrolabe.models.emulator import load_emulator
from spectrolabe.models.released import EMULATOR, find_emulators, find_model
from spectrolabe.spectra import Spectrum
from tests.inference.fitted import (
    LABELS,
    RESOLUTION,
    VELOCITY,
    saved_emulator,
    write_star,
    write_stars,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return saved_emulator(tmp_path_factory.mktemp("emulator") / "tiny")


@pytest.fixture(scope="module")
def stars(model, tmp_path_factory):
    """A folder of three spectra and their true labels."""
    folder = tmp_path_factory.mktemp("spectra")
    return folder, write_stars(folder, model)


@pytest.fixture(scope="module")
def truth(model, stars, tmp_path_factory):
    """A table of the true labels."""
    table = Table(stars[1], names=load_emulator(model).names)
    table["star_id"] = [f"star s{i}" for i in range(len(table))]
    path = tmp_path_factory.mktemp("tables") / "truth.csv"
    table.write(path)
    return path


@pytest.fixture(scope="module")
def fitted(model, stars, truth, tmp_path_factory):
    """The folder of a whole run with everything that it can leave."""
    out = tmp_path_factory.mktemp("fitted")
    report = fit_files(
        model,
        [stars[0]],
        out / "cat.parquet",
        labels=LABELS,
        start=truth,
        spectra=out / "models",
        plot=out / "figures",
        command="spectrolabe fit",
    )
    return out, report


def test_labels_and_velocities_are_found(fitted, stars):
    out, report = fitted
    assert (report.stars, report.skipped, report.bad) == (3, 0, ())
    table = read_catalogue(out / "cat.parquet")
    assert list(table["file"]) == ["s0.ecsv", "s1.ecsv", "s2.ecsv"]
    for j, name in enumerate(LABELS):
        pull = (table[name] - stars[1][:, j]) / table[f"e_{name}"]
        assert np.abs(pull).max() < 4.0, name
        assert (table[f"e_{name}"] > 0).all()
    assert np.abs((table["rv"] - VELOCITY) / table["e_rv"]).max() < 4.0
    assert (table["n_pixels"] > 1000).all()
    assert (table["chi2"] < 1.3 * table["n_pixels"]).all()
    assert not table["flag_bad"].any()


def test_without_a_calibration_labels_are_raw_and_say_so(fitted):
    table = read_catalogue(fitted[0] / "cat.parquet")
    for name in LABELS:
        assert_array_equal(table[name], table[f"raw_{name}"])
        assert (table[f"{name}_flags"] & LabelFlag.UNCALIBRATED).all()


def test_the_provenance_says_how_it_was_fitted(fitted, model, truth):
    said = read_catalogue(fitted[0] / "cat.parquet").meta["provenance"]
    assert said["emulators"] == {model.name: load_emulator(model).card["weights_sha256"]}
    assert (said["labels"], said["method"]) == (list(LABELS), "lm")
    assert said["start"]["table"] == truth.name
    assert said["priors"] == {}  # none of the three has one
    assert said["command"] == "spectrolabe fit"


def test_model_spectra_lie_beside_the_data(fitted, model):
    out, _ = fitted
    paths = sorted((out / "models").glob("*.fits"))
    assert [path.name for path in paths] == [f"star_s{i}_s{i}.fits" for i in range(3)]
    table = read_catalogue(out / "cat.parquet")
    with fits.open(paths[0], checksum=True) as hdus:
        data, header = hdus["SPECTRUM"].data, hdus["SPECTRUM"].header
        assert hdus[0].header["TEFF"] == pytest.approx(table["teff"][0], abs=0.01)
        assert len(hdus[0].header["*_FE"]) == 30
    assert (header["FRAME"], header["MEDIUM"]) == ("barycentric", "vacuum")
    used = ~data["mask"]
    assert used.sum() == table["n_pixels"][0]
    depth = 1.0 - data["model"] / data["continuum"]
    error = 0.005 + 0.05 * np.clip(depth, 0.0, 1.0)
    lines = line_error(np.log(data["wavelength"]) - np.log1p(VELOCITY / 299792.458), RESOLUTION)
    sigma = np.sqrt(1.0 / data["ivar"] + (error**2 + lines**2) * data["continuum"] ** 2)
    chi2 = np.sum(((data["flux"] - data["model"]) / sigma)[used] ** 2)
    assert chi2 == pytest.approx(table["chi2"][0], rel=0.05)
    emulator = load_emulator(model)
    labels = [[hdus[0].header[name.upper()] for name in emulator.names]]
    broad = hdus[0].header["V_BROAD"]
    flux = emulator.flux(labels, data["wavelength"], 11500.0, rv=header["SHIFT"], v_broad=broad)
    assert_allclose((data["model"] / data["continuum"])[used], flux[0][used], atol=2e-3)


def test_outliers_are_told_from_pixels_that_are_masked(model, stars, tmp_path):
    emulator, labels = load_emulator(model), stars[1][0]
    table = Table.read(stars[0] / "s0.ecsv")
    flux, ivar = np.array(table["flux"]), np.array(table["ivar"])
    flux[[400, 900]] *= 1.5
    ivar[[200, 201]] = 0.0
    path = write_star(tmp_path / "spike.ecsv", emulator, labels, flux=flux, ivar=ivar)
    result = module.fit([sl.read(path)], [emulator], labels=LABELS)
    one = FittedSpectrum(sl.read(path)[0], result.models[0][0], float(result.shift[0, 0]))
    assert result.n_clipped[0] == 2
    assert_array_equal(np.flatnonzero(one.clipped), [400, 900])
    assert np.isnan(one.residual[[200, 201]]).all()
    assert (one.residual[[400, 900]] > 20).all()


def test_a_figure_of_every_star(fitted):
    paths = sorted((fitted[0] / "figures").glob("*.png"))
    assert len(paths) == 3
    image = matplotlib.image.imread(paths[0])[..., :3]
    assert image.shape[1] == 1200
    red = (image[..., 0] > 0.7) & (image[..., 1] < 0.5)
    assert red.mean() > 0.002  # the model is there
    assert (image.min(axis=-1) > 0.99).mean() > 0.5


def test_fits_of_a_store_are_those_of_its_files(model, stars, truth, fitted, tmp_path):
    from spectrolabe.surveys.ingest import ingest

    ingest("generic", stars[0], tmp_path / "store")
    report = fit_files(model, [tmp_path / "store"], tmp_path / "b.fits", labels=LABELS, start=truth)
    one, other = read_catalogue(fitted[0] / "cat.parquet"), read_catalogue(report.catalogue)
    other.sort("star_id")
    assert list(one["star_id"]) == list(other["star_id"])
    assert (np.abs(one["teff"] - other["teff"]) < 0.3 * one["e_teff"]).all()


def test_bad_files_and_stars_are_listed_and_the_good_fitted(model, stars, truth, tmp_path):
    folder, labels = stars
    emulator = load_emulator(model)
    bad = tmp_path / "bad"
    wave = Table.read(folder / "s0.ecsv")["wavelength"].value
    write_star(bad / "dead.ecsv", emulator, labels[0], ivar=np.zeros(wave.size))
    write_star(bad / "red.ecsv", emulator, labels[0], wavelength=wave + 2000.0)
    few = np.where(np.arange(wave.size) < 8, 1e-2, 0.0)
    write_star(bad / "few.ecsv", emulator, labels[0], ivar=few)
    (bad / "broken.fits").write_bytes(b"SIMPLE  =                    T" + b" " * 3000)
    start = truth  # has no row of the bad ones: they start where the templates say
    report = fit_files(
        model, [folder / "s0.ecsv", bad], tmp_path / "cat.parquet", labels=LABELS, start=start,
        plot=tmp_path / "figures",
    )  # fmt: skip
    names = sorted(name for name, _ in report.bad)
    assert names == ["broken.fits", "dead.ecsv", "few.ecsv", "red.ecsv"]
    with (tmp_path / "cat.parquet.bad.csv").open() as stream:
        assert len(list(csv.reader(stream))) == 5
    table = read_catalogue(report.catalogue)
    row = {str(r["file"]): r for r in table}
    assert sorted(row) == ["few.ecsv", "red.ecsv", "s0.ecsv"]
    assert np.isfinite(row["s0.ecsv"]["teff"])
    for name, flag in (("few.ecsv", ResultFlag.FEW_PIXELS), ("red.ecsv", ResultFlag.OUT_OF_RANGE)):
        assert np.isnan(row[name]["teff"])
        flags = ResultFlag(int(row[name]["result_flags"]))
        assert flag in flags
        assert ResultFlag.NO_RESULT in flags
        assert row[name]["messages"] in dict(report.bad)[name]
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["star_s0_s0.png"]


def test_an_interrupted_fit_continues(model, stars, truth, fitted, tmp_path, monkeypatch):
    monkeypatch.setitem(module.BATCH, "lm", 2)
    calls = []
    true_fit = module.fit

    def stopped(group, *arguments, **options):
        calls.append(len(group))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return true_fit(group, *arguments, **options)

    monkeypatch.setattr(module, "fit", stopped)
    path, options = tmp_path / "cat.parquet", {"labels": LABELS, "start": truth}
    with pytest.raises(KeyboardInterrupt):
        fit_files(model, [stars[0]], path, **options)
    assert not path.exists()
    with pytest.raises(InputError, match="Finish that run as it was begun"):
        fit_files(model, [stars[0]], path, **options, model_error=0.01)
    report = fit_files(model, [stars[0]], path, **options)
    assert (report.skipped, report.stars, calls) == (2, 1, [2, 1, 1])
    one, other = read_catalogue(path), read_catalogue(fitted[0] / "cat.parquet")
    assert list(one["file"]) == list(other["file"])
    assert_allclose(one["teff"], other["teff"], atol=1.0)


def test_one_star_does_not_stop_the_others(model, stars, truth, tmp_path, monkeypatch):
    true_fit = module.fit

    def fragile(group, *arguments, **options):
        if any(star[0].star_id == "star s1" for star in group):
            raise ZeroDivisionError("of this star")
        return true_fit(group, *arguments, **options)

    monkeypatch.setattr(module, "fit", fragile)
    report = fit_files(model, [stars[0]], tmp_path / "c.parquet", labels=LABELS, start=truth)
    assert list(read_catalogue(report.catalogue)["file"]) == ["s0.ecsv", "s2.ecsv"]
    assert [name for name, _ in report.bad] == ["s1.ecsv"]
    assert "ZeroDivisionError: of this star" in report.bad[0][1]

    def broken(*_, **__):
        raise ZeroDivisionError("of the program")

    monkeypatch.setattr(module, "fit", broken)
    with pytest.raises(ZeroDivisionError, match="of the program"):
        fit_files(model, [stars[0]], tmp_path / "d.parquet", labels=LABELS, start=truth)


def test_labels_not_fitted_stay_where_they_were_told(model, stars, truth, tmp_path):
    fit_files(
        model, [stars[0] / "s0.ecsv"], tmp_path / "c.parquet", labels=("fe_h",), start=truth,
        fixed={"logg": 4.25}, spectra=tmp_path / "models",
    )  # fmt: skip
    header = fits.getheader(tmp_path / "models" / "star_s0_s0.fits")
    assert header["LOGG"] == pytest.approx(4.25)
    assert header["TEFF"] == pytest.approx(stars[1][0, 0], rel=1e-6)
    said = read_catalogue(tmp_path / "c.parquet").meta["provenance"]
    assert (said["labels"], said["fixed"]) == (["fe_h"], {"logg": 4.25})


def test_a_calibration_changes_the_label_and_keeps_the_raw_one(
    model, stars, truth, fitted, tmp_path, monkeypatch
):
    file = tmp_path / "a.calibration"
    file.write_bytes(b"of a calibration")
    corrected = {}

    class Shift:
        def apply(self, posterior):
            mean = posterior.mean + np.array([100.0, 0.0, 0.0])
            flags = np.tile([0, 0, int(LabelFlag.EXTRAPOLATED)], (len(mean), 1))
            labels = type(posterior)(
                posterior.names, mean, 4.0 * posterior.covariance, posterior.star_id
            )
            corrected.update(names=posterior.names)
            return SimpleNamespace(labels=labels, flags=flags)

    monkeypatch.setattr(module.Calibration, "load", lambda path: Shift())
    report = fit_files(
        model, [stars[0]], tmp_path / "c.parquet", labels=LABELS, start=truth, calibration=file
    )
    table, other = read_catalogue(report.catalogue), read_catalogue(fitted[0] / "cat.parquet")
    assert_allclose(table["raw_teff"], other["teff"], atol=1.0)
    assert_allclose(table["teff"], table["raw_teff"] + 100.0, atol=0.01)
    assert_allclose(table["e_teff"], 2.0 * table["raw_e_teff"], rtol=1e-5)
    assert not (table["teff_flags"] & LabelFlag.UNCALIBRATED).any()
    assert (table["fe_h_flags"] & LabelFlag.EXTRAPOLATED).all()
    assert table.meta["provenance"]["calibration"]["file"] == file.name
    with pytest.raises(InputError, match="teff, logg, fe_h among them"):
        fit_files(model, [stars[0]], tmp_path / "d.parquet", labels=("fe_h",), calibration=file)


def test_what_is_wrong_is_said_before_anything_is_read(model, tmp_path):
    def wrong(match, **options):
        with pytest.raises(InputError, match=match):
            fit_files(model, ["nowhere"], tmp_path / "c.parquet", **options)

    wrong("expected a known method .*found 'newton'", method="newton")
    wrong("expected a known label .*found 'tef'.*'teff'", labels=("tef",))
    wrong("expected a known label of the emulator .*found 'p_fe'", labels=("p_fe",))
    wrong("teff from 4250 to 7500, found 9000", fixed={"teff": 9000.0})
    wrong("none of them fixed, found teff more than once", labels=LABELS, fixed={"teff": 5000.0})
    wrong("model_error: expected one or two numbers from 0 to 1", model_error=1.5)
    wrong("continuum: expected an order of 0 or more", continuum=-1)
    wrong("absent: expected the file of a calibration", calibration="absent")
    wrong("absent.csv: expected a run, a folder of a model", start="absent.csv")
    wrong("nowhere: expected a file, a folder")
    (tmp_path / "file").write_text("")
    wrong("expected a folder to write to", plot=tmp_path / "file" / "figures")


def test_models_are_for_their_own_verb(model, tmp_path):
    assert find_model(model, EMULATOR) == model
    assert find_emulators(model) == [model]
    assert find_emulators(f"{model},{model}") == [model, model]
    with pytest.raises(InputError, match=r"expected an encoder, which `spectrolabe predict` needs"):
        find_model(model)
    with pytest.raises(InputError, match=r"found an encoder\. Use it with `spectrolabe predict`"):
        find_emulators("lamost-dr10")
    with pytest.raises(InputError, match=r"Released models of `spectrolabe predict`: .*unified-v1"):
        find_model("nothing")
    with pytest.raises(InputError, match=r"expected a model folder with card\.json"):
        fit_files(tmp_path, [tmp_path], tmp_path / "c.parquet")


def test_default_is_every_released_emulator(model, monkeypatch):
    both = {"emulator-h": model, "emulator-optical": model.parent, "other": model}
    monkeypatch.setattr(released, "_all_released", lambda: both)
    assert find_emulators("default") == [model.parent, model]
    monkeypatch.setattr(released, "_all_released", lambda: {"emulator-h": model})
    assert find_emulators("default") == [model]
    monkeypatch.setattr(released, "_all_released", dict)
    with pytest.raises(InputError, match="default: expected a run"):
        find_emulators("default")


def spectrum(star, name="a", **changes):
    wave = np.linspace(5000.0, 5100.0, 400)
    made = Spectrum(wave, np.ones(400), np.full(400, 1e4), 5000.0, "rest", 0.0)
    return made.replace(star_id=star, spectrum_id=name, **changes)


def test_starts_from_a_table(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("Star_ID,Teff,logg,snr\nb,5000,4.5,3\na,6000,,4\n")
    start = start_from(path)
    labels = start([[spectrum("a")], [spectrum("x")], [spectrum("b")]])
    assert labels.names == ("teff", "logg")
    assert_array_equal(labels.values, [[6000, np.nan], [np.nan, np.nan], [5000, 4.5]])
    with pytest.raises(InputError, match=r"expected a row with the star_id .*'x', found 'b'"):
        TableStart(path)([[spectrum("x")]])

    def wrong(text, match):
        path.write_text(text)
        with pytest.raises(InputError, match=match):
            TableStart(path)

    wrong("star_id,teff\na,5000\na,5100\n", "expected each star once, found a 2 times")
    wrong("star,teff\na,5000\n", "expected a column star_id")
    wrong("star_id,colour\na,1\n", "at least one label of the registry")
    wrong("star_id,teff\na,hot\n", "column teff: expected numbers")
    wrong("star_id,teff\na,5000\nb,50\n", "1500 to 60000 K, found 50 in row 2")
    path.write_text("star_id,spectrum_id,teff\na,one,5000\na,two,5100\n")
    labels = TableStart(path)([[spectrum("a", "two")], [spectrum("a", "one")]])
    assert_array_equal(labels.values[:, 0], [5100, 5000])


def test_options_as_they_are_typed():
    assert parse_labels("teff, mg_fe") == ("teff", "mg_fe")
    assert parse_labels(None) is None
    assert parse_fixed(["v_micro=1.1", "mg_fe=-0.2"]) == {"v_micro": 1.1, "mg_fe": -0.2}
    assert parse_priors([]) == {}
    assert parse_priors(["weak", "logg=4.44:0.02"]) == {"logg": (4.44, 0.02)}
    none = parse_priors(["none", "teff=5777:50"])
    assert (dict(none.normal), none.v_micro_scatter) == ({"teff": (5777.0, 50.0)}, None)
    assert parse_model_error("0.01") == 0.01
    assert parse_model_error("0.005,0.1") == (0.005, 0.1)
    wrong = [
        (parse_model_error, "0.1,0.2,0.3", "one or two numbers"),
        (parse_model_error, "none", "a finite number"),
        (parse_labels, "teff,teff", "each once"),
        (parse_labels, ",", "found ','"),
        (parse_labels, "tefff", "'teff'"),
        (parse_fixed, ["teff"], "LABEL=VALUE"),
        (parse_fixed, ["teff=hot"], "a finite number"),
        (parse_fixed, ["teff=50"], "teff from 1500 to 60000 K"),
        (parse_fixed, ["teff=5000", "teff=5001"], "teff twice"),
        (parse_priors, ["strong"], "'weak', 'none', or LABEL=MEAN:SIGMA"),
        (parse_priors, ["logg=4.4"], "LABEL=MEAN:SIGMA"),
        (parse_priors, ["logg=4.4:0"], "a width of logg > 0"),
        (parse_priors, ["logg=4.4:nan"], "a finite number"),
        (parse_priors, ["none", "weak"], "found both"),
    ]
    for parse, given, match in wrong:
        with pytest.raises(InputError, match=match):
            parse(given)


def test_files_of_two_stars_never_have_one_name(tmp_path):
    files = StarFiles(None, None, whole=False, visits=False)
    names = {
        files.name([spectrum(star, meta={"file": file})])
        for star, file in (
            ("a/b", "x.fits"), ("a b", "y.fits"), ("a", "n1/x.fits.gz"), ("a", "n2/x.fits.gz"),
            ("long" * 60, "1.fits"), ("long" * 60, "2.fits"), ("é", "x.fits"), ("..", "...fits"),
        )
    }  # fmt: skip
    assert len(names) == 8
    for name in names:
        assert not set(name) - set("abcdefghijklmnopqrstuvwxyz0123456789_+-.")
        assert not name.startswith(".")
        assert len(name) < 140
    visits = StarFiles(None, None, whole=False, visits=True)
    assert visits.name([spectrum("a", "v1")]) != visits.name([spectrum("a", "v2")])


def one_fitted(wave, flux, resolution=5000.0, bad=()):
    ivar = np.full(wave.size, 1e4)
    ivar[list(bad)] = 0.0
    seen = Spectrum(wave, flux, ivar, resolution, "barycentric", 30.0)
    model = SimpleNamespace(
        flux=flux, continuum=np.ones(wave.size), used=ivar > 0, variance_floor=np.zeros(wave.size)
    )
    return FittedSpectrum(seen, model, 30.0)


def test_the_lines_that_drive_a_label():
    wave = np.arange(5000.0, 5100.0, 0.1)
    one = one_fitted(wave, np.ones(wave.size))
    rest = one.rest_wavelength
    line = lambda centre, depth: depth * np.exp(-0.5 * ((rest - centre) / 0.3) ** 2)  # noqa: E731
    slopes = np.stack([line(5040.0, 0.2) + line(5080.0, 0.1), line(5020.0, 0.3), 0.0 * rest])
    lines = driving_lines([one], [slopes], ("mg_fe", "si_fe", "eu_fe"), 3)
    assert [line.label for line in lines] == ["mg_fe", "mg_fe", "si_fe"]
    assert_allclose([line.wavelength for line in lines], [5040.0, 5080.0, 5020.0], atol=0.1)
    # the squares of the depths, within an Angstrom of the centre
    assert_allclose([line.share for line in lines], [0.8, 0.2, 1.0], atol=0.01)
    # nothing is said by pixels that were not used
    bad = np.flatnonzero(np.abs(rest - 5040.0) < 5.0)
    blind = one_fitted(wave, np.ones(wave.size), bad=bad)
    lines = driving_lines([blind], [slopes[:1]], ("mg_fe",), 1)
    assert lines[0].wavelength == pytest.approx(5080.0, abs=0.1)


def test_a_figure_has_a_panel_for_every_label_with_a_value(tmp_path):
    wave = np.arange(3700.0, 9100.0, 1.0)
    rng = np.random.default_rng(0)
    flux = 1.0 + 0.01 * rng.normal(size=wave.size)
    one = one_fitted(wave, flux, 1800.0, bad=range(900, 960))
    names = ("teff", "logg", "mg_fe", "eu_fe")
    slopes = np.zeros((4, wave.size))
    for j, pixel in enumerate((300, 2000, 3000, 4000)):
        slopes[j, pixel - 2 : pixel + 3] = 0.1
    values, sigma = np.array([5000.0, 4.5, 0.1, np.nan]), np.array([50.0, 0.1, 0.05, np.nan])
    figure = plot_fit(
        tmp_path / "f.png", [one], [slopes], names, values, sigma, Head("a star", "S/N 100", ["X"])
    )
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert len(titles) == 3
    assert "5000 ± 50 K" in titles[0]
    assert titles[2].startswith("[Mg/Fe] = 0.10 ± 0.05")
    texts = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert "a star" in texts
    assert "No information on Eu" in texts
    assert "Mg" in texts  # above its line
    assert matplotlib.image.imread(tmp_path / "f.png").shape[1] == 1200
    narrow = plot_fit(None, [one_fitted(wave[:40], flux[:40])], [slopes[:, :40]], names, values,
                      sigma, Head("b"))  # fmt: skip
    assert [ax.get_title() for ax in narrow.axes if ax.get_title()] == []


def test_only_outliers_are_drawn_as_such():
    wave = np.arange(5000.0, 5100.0, 0.1)
    flux = np.ones(wave.size)
    one = one_fitted(wave, flux)
    used, floor = np.array(one.used), np.zeros(wave.size)
    used[[100, 500, 501]] = False  # of which the first is an outlier, the others masked
    floor[[500, 501]] = np.nan
    model = SimpleNamespace(flux=flux, continuum=flux, used=used, variance_floor=floor)
    one = FittedSpectrum(one.spectrum, model, 30.0)
    assert_array_equal(np.flatnonzero(one.clipped), [100])
    values = np.array([5000.0])
    figure = plot_fit(None, [one], [np.zeros((1, wave.size))], ("teff",), values, values, Head("a"))
    (dots,) = [line for ax in figure.axes for line in ax.lines if line.get_marker() == "."]
    assert len(dots.get_xdata()) == 1


def test_the_velocity_of_a_star_is_the_mean_of_its_spectra():
    rv = np.array([[10.0, 13.0], [5.0, np.nan], [np.nan, np.nan]])
    e_rv = np.array([[1.0, 2.0], [0.5, np.nan], [np.nan, np.nan]])
    mean, error = star_velocity(SimpleNamespace(rv=rv, e_rv=e_rv))
    assert_allclose(mean, [10.6, 5.0, np.nan])
    assert_allclose(error, [0.8**0.5, 0.5, np.nan])
