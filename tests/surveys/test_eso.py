"""ESO Science Data Products and 4MOST: driven by what the file declares, or an error."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits

from spectrolabe import surveys
from spectrolabe.errors import InputError
from tests.surveys.writers import eso


@pytest.fixture
def xshooter(tmp_path):
    return eso.xshooter(tmp_path, np.random.default_rng(5)).path


@pytest.fixture
def fourmost(tmp_path):
    return eso.lrs(tmp_path, np.random.default_rng(6)).path


def edit(path, extension, **cards):
    """Set cards of a header; None removes one."""
    with fits.open(path, mode="update") as hdus:
        for key, value in cards.items():
            if value is None:
                del hdus[extension].header[key]
            else:
                hdus[extension].header[key] = value
    return path


def test_medium_comes_from_the_ucd_alone(fourmost):
    (air,) = surveys.read(fourmost)
    (vacuum,) = surveys.read(edit(fourmost, 1, TUCD1="em.wl"))
    shift = air.wavelength / vacuum.wavelength - 1
    assert np.all((shift > 2.7e-4) & (shift < 2.9e-4))


@pytest.mark.parametrize(
    ("system", "frame"),
    [("BARYCENT", "barycentric"), ("HELIOCEN", "barycentric"), ("TOPOCENT", "observed")],
)
def test_frame_comes_from_specsys(fourmost, system, frame):
    assert surveys.read(edit(fourmost, 0, SPECSYS=system))[0].frame == frame


def test_an_unknown_frame_is_an_error(fourmost):
    with pytest.raises(InputError, match=r"FRAME: expected a known value .*barycentric.* 'lsrk'"):
        surveys.read(edit(fourmost, 0, SPECSYS="LSRK"))


@pytest.mark.parametrize(
    ("card", "extension", "name", "fix"),
    [
        ("SPEC_RES", 0, "R", r"SPEC_RES = 6500 in the primary header.*R = 5000 in spectra\.toml"),
        ("SPECSYS", 0, "FRAME", r"SPECSYS = 'BARYCENT'"),
        ("TUCD1", 1, "MEDIUM", r"TUCD of the wavelength column"),
    ],
)
def test_what_is_missing_is_an_error_that_tells_how_to_give_it(
    fourmost, card, extension, name, fix
):
    edit(fourmost, extension, **{card: None})
    with pytest.raises(InputError, match=rf"LJ1\.fits: expected the keyword {name}: .*{fix}"):
        surveys.read(fourmost)


def test_the_sidecar_gives_what_the_file_lacks(fourmost):
    edit(fourmost, 0, SPEC_RES=None)
    (fourmost.parent / "spectra.toml").write_text("R = 6200\n")
    assert surveys.read(fourmost)[0].resolution == 6200


def test_a_unit_is_needed_unless_the_survey_has_one(xshooter, fourmost):
    assert surveys.read(edit(fourmost, 1, TUNIT1=None))[0].wavelength[0] == pytest.approx(
        3701, abs=1
    )
    with pytest.raises(InputError, match=r"WAVEUNIT.*TUNIT of the wavelength column"):
        surveys.read(edit(xshooter, 1, TUNIT1=None))
    with pytest.raises(InputError, match=r"wavelengths in Angstrom, nm or um, found the unit 'K'"):
        surveys.read(edit(xshooter, 1, TUNIT1="K"))


def test_a_spectral_axis_in_frequency_is_an_error(xshooter):
    with pytest.raises(InputError, match=r"in wavelength, TUCD em\.wl, found TUCD em\.freq"):
        surveys.read(edit(xshooter, 1, TUCD1="em.freq"))


def test_empty_errors_are_an_error_and_can_be_assumed(tmp_path):
    path = eso.harps(tmp_path, np.random.default_rng(7)).path
    with fits.open(path, mode="update") as hdus:
        hdus[1].data["ERR"][:] = np.nan
    with pytest.raises(InputError, match=r"keyword SNR.*no errors"):
        surveys.read(path)
    (tmp_path / "spectra.toml").write_text("SNR = 80\n")
    assert surveys.read(path)[0].snr == pytest.approx(80)


def test_faint_flux_in_cgs_keeps_its_ivar(fourmost):
    """1/(1e-20)^2 is beyond single precision; 1e-17 erg/s/cm2/Å is not."""
    with fits.open(fourmost, mode="update") as hdus:
        for name in ("FLUX", "ERR_FLUX"):
            hdus[1].data[name][:] *= 1e-3
    (spectrum,) = surveys.read(fourmost)
    assert spectrum.good.mean() > 0.9
    assert 1e4 < np.median(spectrum.ivar[spectrum.good]) < 1e7


@pytest.mark.parametrize("telling", ["main", "uncalibrated"])
def test_the_calibrated_flux_and_its_own_error_whatever_they_are_called(tmp_path, telling):
    """The raw columns have the names that one would expect; utype and UCD tell better."""
    raw, main = ("stat.uncalib", "src.net") if telling == "uncalibrated" else ("", "meta.main")
    flux, accuracy = "phot.flux.density;em.wl;", "FluxAxis.Accuracy.StatError"
    rows = [
        ("WAVE", 5000 + np.arange(20.0), "spec:Data.SpectralAxis.Value", "em.wl"),
        ("FLUX", np.full(20, 900.0), "eso:Data.FluxAxis.Value", flux + raw),
        ("ERR", np.full(20, 90.0), f"eso:Data.{accuracy}", "stat.error"),
        ("FLUX_CAL", np.full(20, 8.0), "spec:Data.FluxAxis.Value", flux + main),
        ("ERR_CAL", np.full(20, 2.0), f"spec:Data.{accuracy}", "stat.error"),
    ]
    path = tmp_path / "two.fits"
    cards = {"SPECSYS": "BARYCENT", "SPEC_RES": 9000.0}
    eso.write_product(
        path,
        cards,
        [
            {"name": name, "kind": "D", "data": data, "TUTYP": utype, "TUCD": ucd}
            | ({"TUNIT": "Angstrom"} if name == "WAVE" else {"TUNIT": "adu"})
            for name, data, utype, ucd in rows
        ],
    )
    (spectrum,) = surveys.read(path)
    assert set(spectrum.flux) == {8.0}
    assert set(spectrum.ivar) == {0.25}
