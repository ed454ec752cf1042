"""Files in, the same files without noise out: formats, bad files, interruption, the law of fits."""

from __future__ import annotations

import csv
import gzip

import numpy as np
import pytest
import torch
from astropy.io import fits
from typer.testing import CliRunner

from spectrolabe import surveys
from spectrolabe.catalogue import read_catalogue
from spectrolabe.cli import app
from spectrolabe.config import StreamConfig
from spectrolabe.errors import InputError
from spectrolabe.inference.denoise import denoise
from spectrolabe.inference.fit_run import fit_files
from spectrolabe.models.checkpoint import load
from spectrolabe.models.denoiser import AS_STATED, Denoiser, load_denoiser, save_denoiser
from spectrolabe.models.flux_decoder import FluxDecoder
from spectrolabe.models.observed import Observed
from spectrolabe.models.released import DENOISER, find_model
from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.spectra.broadening import FWHM
from spectrolabe.spectra.combine import combine
from spectrolabe.spectra.continuum import running_continuum
from spectrolabe.spectra.spectrum import PRODUCT
from spectrolabe.spectra.store import StoreWriter, open_store
from spectrolabe.surveys.products import table_of
from spectrolabe.training.observing import Conditions, observe_twice
from spectrolabe.training.sky import SkyStream
from spectrolabe.training.twins import visits_of
from tests.surveys.writers import spectrum_writers

WRITERS = spectrum_writers()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A denoiser that has learnt nothing: what it says is the first fit of unified-v1."""
    torch.manual_seed(0)
    estimator = load(find_model("unified-v1"))
    card = {
        "name": "untaught",
        "encoder": "unified-v1",
        "encoder_sha256": estimator.card["weights_sha256"],
        "channels": 8,
    }
    decoder = FluxDecoder(estimator.encoder.latents.shape[1], estimator.encoder.heads, 8)
    made = Denoiser(estimator, decoder, {"": AS_STATED}, card)
    return save_denoiser(made, tmp_path_factory.mktemp("denoiser"))


def of_computed_stars(folder):
    """The same without what LAMOST's stars have taught it, which simulated ones do not show."""
    model = load_denoiser(folder)
    model.estimator.encoder.guesser.compact.observed = Observed()
    return model


def star(seed=0, *, snr=30.0, name="a", resolution=2000.0, low=4000.0, high=7000.0):
    """A spectrum that is nothing but a continuum and noise."""
    grid = np.exp(np.arange(np.log(low), np.log(high), 1.0 / resolution / 3.0))
    flux = 5.0 * (grid / 5000.0) * (1.0 + np.random.default_rng(seed).normal(size=len(grid)) / snr)
    ivar = (snr / (5.0 * grid / 5000.0)) ** 2
    return Spectrum(grid, flux, ivar, resolution, Frame.REST, 0.0, "generic", name, name)


def written(path, spectrum):
    """As a file of a table."""
    hdus = table_of(spectrum, "x")
    del hdus[0].header["SPLMODEL"]
    hdus.writeto(path)
    return path


def observed(names, snr, rng):
    """Spectra of simulated stars as LAMOST sees them, and what they would be without noise."""
    quiet = ("line_error", "scattered", "resolution_error", "arm_velocity", "drop_pixels", "masked")
    config = StreamConfig(
        surveys={"lamost_lrs": 1.0},
        field=0.99,
        coarser=0.0,
        **dict.fromkeys(quiet, 0.0),
    )
    stream = SkyStream(config)
    stars = stream.stars(40, rng)
    usual = np.flatnonzero(
        (np.abs(stars.atmosphere[:, 0] - 5400) < 600) & (stars.atmosphere[:, 2] > -0.7)
    )
    stars = stars.take(usual[np.asarray(names)])
    instrument = stream.instruments["lamost_lrs"]
    conditions = Conditions.draw(config, instrument, len(stars), rng, snr)
    generator = torch.Generator().manual_seed(1)
    both = observe_twice(instrument, stars, conditions, config, rng, generator)
    return [
        [
            Spectrum(
                np.exp(one.log_wavelength[i].numpy()),
                one.flux[i].numpy(),
                one.ivar[i].numpy(),
                1.0 / (FWHM * np.sqrt(one.variance[i].numpy())),
                Frame.REST,
                0.0,
                "lamost_lrs",
                f"s{names[i]}",
                f"s{names[i]}",
            )
            for i in range(len(stars))
        ]
        for (one,) in both
    ]


def errors(found, exact):
    """Of the flux, relative to it, where something is said and the air is clear; and of lines."""
    use = found.good & (np.abs(exact.wavelength - 5400.0) < 350.0)
    error = np.where(use, found.flux / exact.flux - 1.0, 0.0)
    smooth = running_continuum(exact.wavelength, error, use.astype(float), 0.003)
    return error[use], (error - smooth)[use]


def test_noise_goes_and_the_level_stays(folder):
    seen, exact = observed([0, 1, 2], 30.0, np.random.default_rng(0))
    for one, truth, (found,) in zip(
        seen, exact, of_computed_stars(folder).denoise([[one] for one in seen]), strict=True
    ):
        assert found.good.sum() > 0.8 * one.good.sum()  # but for air, sodium and the blue end
        (level, lines), (_, noise) = errors(found, truth), errors(one, truth)
        assert np.std(lines) < 0.2 * np.std(noise)
        assert abs(np.median(level)) < 0.005
        assert found.meta[PRODUCT] == "untaught"
        assert (one.meta.get(PRODUCT), found.rv, found.star_id) == (None, one.rv, one.star_id)


def test_errors_hold_the_noise_of_the_level(folder):
    """Many exposures of one star: how much their level scatters is as is stated."""
    _, (exact,) = observed([0], 30.0, np.random.default_rng(0))
    rng, sigma = np.random.default_rng(3), exact.flux / 8.0
    noise = rng.normal(size=(16, len(exact))) * sigma
    ivar = np.where(exact.good, sigma, np.inf) ** -2.0
    seen = [exact.replace(flux=exact.flux + one, ivar=ivar) for one in noise]
    made = [one for (one,) in of_computed_stars(folder).made([[one] for one in seen])]
    use = np.all([one.spectrum.good for one in made], axis=0)
    use &= np.abs(exact.wavelength - 5400.0) < 350.0
    ratio = np.where(use, [one.spectrum.flux for one in made] / exact.flux, 1.0)
    levels = running_continuum(exact.wavelength, ratio, use.astype(float), 0.003)[:, use]
    stated = np.median([one.level_sigma[use] for one in made], axis=0) / exact.flux[use]
    assert np.median(np.std(levels, axis=0) / stated) == pytest.approx(1.0, abs=0.3)
    for one in made:
        both = np.hypot(one.sigma, one.level_sigma)[use]
        np.testing.assert_allclose(one.spectrum.ivar[use], both**-2.0, rtol=1e-5)


def test_a_line_that_no_star_has_stays_where_it_is():
    """By the released denoiser; looked for at the line, for the level takes up what is lost."""
    denoiser = load_denoiser(find_model("default", DENOISER))
    visits, _ = observed([0, 1, 2, 3], 25.0, np.random.default_rng(6))
    kept = []
    for at, one in zip((4900.0, 5250.0, 5600.0, 6050.0), visits, strict=True):
        sigma = one.flux[np.argmin(np.abs(one.wavelength - at))] / 25.0
        line = 20.0 * sigma * np.exp(-0.5 * ((one.wavelength - at) / 2.0) ** 2)
        bright = one.replace(flux=np.where(one.good, one.flux + line, 0.0))
        (plain,), (found,) = denoiser.denoise([[one], [bright]])
        use = plain.good & found.good & (line > 0.01 * line.max())
        kept.append(np.sum((found.flux - plain.flux)[use] * line[use]) / np.sum(line[use] ** 2))
    assert np.median(kept) > 0.7, kept
    assert max(kept) < 1.2, kept


def test_stars_beside_it_and_batches_change_nothing(folder):
    model = load_denoiser(folder)
    stars = [[star(i, snr=20.0 + i, low=4000.0 + 40.0 * i)] for i in range(3)]
    together = model.denoise(stars)
    for one, (found,) in zip(stars, together, strict=True):
        ((alone,),) = model.denoise([one])
        np.testing.assert_allclose(found.flux, alone.flux, rtol=2e-3)
        np.testing.assert_array_equal(found.good, alone.good)


def test_visits_together_tell_each_other_what_the_star_is(folder):
    model = of_computed_stars(folder)
    visits, exact = observed([0, 0, 0, 0], 12.0, np.random.default_rng(1))
    alone = [model.denoise([[one]])[0][0] for one in visits]
    (jointly,) = model.denoise([visits])
    single, joint = (
        np.median([np.std(errors(f, e)[1]) for f, e in zip(found, exact, strict=True)])
        for found in (alone, jointly)
    )
    assert joint < 0.8 * single


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_every_survey(folder, name, tmp_path):
    """What a reader makes of the file that is written, from a file packed by gzip."""
    source = tmp_path / "in"
    source.mkdir()
    case = WRITERS[name](source, np.random.default_rng(3))
    measured = surveys.read(case.path)
    if case.path.read_bytes().startswith(b"SIMPLE"):
        packed = case.path.with_name(case.path.name + ".gz")
        packed.write_bytes(gzip.compress(case.path.read_bytes()))
        case.path.unlink()
    else:
        packed = case.path
    report = denoise(folder, [packed], tmp_path / "out", survey=case.survey)
    if not report.written:  # nothing at wavelengths that it has learnt, or sharper than it knows
        assert report.bad
        return
    found = [s for path in (tmp_path / "out").glob("*.fits") for s in surveys.read(path)]
    assert all(one.meta[PRODUCT] == "untaught" for one in found)
    assert sum(one.good.any() for one in found) == report.spectra
    assert {one.star_id for one in found} <= {one.star_id for one in measured}


def test_good_files_are_written_and_bad_ones_listed(folder, tmp_path):
    written(tmp_path / "good.fits", star(1))
    (tmp_path / "cut.fits").write_bytes((tmp_path / "good.fits").read_bytes()[:20_000])
    written(tmp_path / "sharp.fits", star(2, resolution=60_000.0, low=5000.0, high=5100.0))
    written(tmp_path / "far.fits", star(3, resolution=900.0, low=11_000.0, high=13_000.0))
    result = CliRunner().invoke(
        app, ["denoise", str(folder), str(tmp_path), "-o", str(tmp_path / "out")]
    )
    assert result.exit_code == 1
    assert (tmp_path / "out" / "good-1.fits").is_file()
    with (tmp_path / "out" / "bad.csv").open() as stream:
        bad = dict(list(csv.reader(stream))[1:])
    assert set(bad) == {"cut.fits", "sharp.fits", "far.fits"}
    assert "truncated" in bad["cut.fits"]
    assert "R = 60000" in bad["sharp.fits"]
    assert "wavelengths that the model has learnt" in bad["far.fits"]


def test_a_velocity_that_is_not_stated_is_found_or_the_spectrum_is_bad(folder, tmp_path):
    seen, exact = observed([0], 40.0, np.random.default_rng(2))
    shift = 1.0 + 180.0 / 299_792.458
    moving = seen[0].replace(
        wavelength=seen[0].wavelength * shift, frame=Frame.BARYCENTRIC, rv=np.nan
    )
    written(tmp_path / "moving.fits", moving)
    written(tmp_path / "noise.fits", star(3, snr=2.0).replace(frame=Frame.BARYCENTRIC, rv=np.nan))
    (tmp_path / "catalogue.csv").write_text("star,teff\na,5000\n")
    report = denoise(folder, [tmp_path], tmp_path / "out")
    assert [name for name, _ in report.bad] == ["noise.fits"]
    assert "no velocity" in report.bad[0][1]
    (found,) = surveys.read(tmp_path / "out" / "moving-1.fits")
    assert np.isnan(found.rv)
    at_rest = found.replace(wavelength=found.wavelength / shift)
    assert np.std(errors(at_rest, exact[0])[1]) < 0.5 * np.std(errors(seen[0], exact[0])[1])
    with pytest.raises(InputError, match="no velocity"):
        load_denoiser(folder).denoise([[moving]])


def test_a_second_run_goes_on(folder, tmp_path):
    for i in range(3):
        written(tmp_path / f"s{i}.fits", star(i, name=f"s{i}"))
    out = tmp_path / "out"
    first = denoise(folder, [tmp_path / "s0.fits"], out)
    before = (out / "s0-1.fits").stat().st_mtime_ns
    second = denoise(folder, [tmp_path], out)
    assert (first.written, second.written, second.skipped) == (1, 2, 1)
    assert (out / "s0-1.fits").stat().st_mtime_ns == before
    assert denoise(folder, [tmp_path], out).written == 0


def test_a_second_run_does_not_forget_what_was_bad_in_files_that_are_done(folder, tmp_path):
    written(tmp_path / "cut.fits", star(1))
    whole = (tmp_path / "cut.fits").read_bytes()
    (tmp_path / "cut.fits").write_bytes(whole[:20_000])
    case = WRITERS["apogee-apstar_dr13"](tmp_path, np.random.default_rng(3))
    with fits.open(case.path, mode="update") as hdus:
        hdus[1].data[3] = 0.0  # nothing is left of one visit
    out = tmp_path / "out"
    first = denoise(folder, [tmp_path], out)
    assert {name for name, _ in first.bad} == {"cut.fits", case.path.name}
    second = denoise(folder, [tmp_path], out)
    assert second.written == 0
    assert sorted(second.bad) == sorted(first.bad)
    (tmp_path / "cut.fits").write_bytes(whole)
    third = denoise(folder, [tmp_path], out)
    assert {name for name, _ in third.bad} == {case.path.name}


def test_nothing_that_a_model_made_is_denoised_fitted_or_a_twin(folder, tmp_path):
    written(tmp_path / "s.fits", star(1))
    denoise(folder, [tmp_path / "s.fits"], tmp_path / "out")
    product = tmp_path / "out" / "s-1.fits"
    again = denoise(folder, [product], tmp_path / "again")
    assert again.written == 0
    assert "product of untaught" in again.bad[0][1]
    report = fit_files("emulator-optical", [product], tmp_path / "fit.parquet")
    assert "not a measurement" in report.bad[0][1]
    table = read_catalogue(report.catalogue)
    assert np.isnan(table["teff"]).all()
    with StoreWriter(tmp_path / "store") as writer:
        for one in (*surveys.read(product), star(1)):
            writer.append(one.replace(spectrum_id=f"id {one.star_id} {len(one.meta)}"))
    assert visits_of(open_store(tmp_path / "store")).tolist() == [1]


def test_another_encoder_of_that_name_is_refused(folder, tmp_path):
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    card = (folder / "card.json").read_text()
    sha = load(find_model("unified-v1")).card["weights_sha256"]
    (tmp_path / "card.json").write_text(card.replace(sha, "0" * 64))
    with pytest.raises(InputError, match="another one of that name"):
        load_denoiser(tmp_path)


@pytest.mark.data
def test_exposures_of_a_real_star_come_nearer_to_the_mean_of_the_others(shared_data, tmp_path):
    """Files of LAMOST's medium resolution, which state no velocity, by the released denoiser."""
    source = next((shared_data / "lamost_mrs").glob("med-58408*"))
    report = denoise("default", [source], tmp_path / "out")
    assert not report.bad
    (path,) = (tmp_path / "out").glob("*.fits")
    measured, made = (
        {s.spectrum_id.split(":")[1]: s for s in surveys.read(p)} for p in (source, path)
    )
    ratios = []
    for name in (n for n in measured if n.startswith("R-")):
        others = [s for n, s in measured.items() if n.startswith("R-") and n != name]
        visit, found = measured[name].replace(rv=0.0), made[name]
        deep = combine([one.replace(rv=0.0) for one in others], visit)
        use = visit.good & found.good & deep.good
        before, after = (np.median(np.abs(x.flux - deep.flux)[use]) for x in (visit, found))
        ratios.append(after / before)
    assert len(ratios) > 4
    assert np.median(ratios) < 0.85
