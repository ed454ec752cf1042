"""Generic files: nothing is assumed that the user did not write, and MILES reads with a sidecar."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from spectrolabe import surveys
from spectrolabe.errors import InputError
from tests.surveys.writers import generic
from tests.surveys.writers.air import to_vacuum

KEYWORDS = {"MEDIUM": "vacuum", "FRAME": "rest", "RV": 0.0, "R": 2000}


@pytest.fixture
def rng():
    return np.random.default_rng(8)


def write(path, columns=None, **keywords):
    given = {"flux": [1.0] * 3, "ivar": [100.0] * 3} if columns is None else columns
    table = Table({"wavelength": [5000.0, 5001, 5002], **given})
    if table["wavelength"].unit is None and "WAVEUNIT" not in keywords:
        table["wavelength"].unit = "Angstrom"
    table.meta = {key: value for key, value in keywords.items() if value is not None}
    table.write(path, format="ascii.ecsv", overwrite=True)
    return path


@pytest.mark.parametrize("name", list(KEYWORDS))
def test_each_missing_keyword_is_an_error_that_shows_how_to_write_it(tmp_path, name):
    path = write(tmp_path / "own.ecsv", **{**KEYWORDS, name: None})
    pattern = (
        rf"own\.ecsv: expected the keyword {name}: .* found none\. Write {name} = .* in a FITS"
    )
    with pytest.raises(InputError, match=pattern) as error:
        surveys.read(path)
    assert f"'# {name} = " in str(error.value)
    # what the message says to write is right
    line = str(error.value).split("or a line ")[1].split(" in spectra.toml")[0]
    (tmp_path / "spectra.toml").write_text(line)
    assert len(surveys.read(path)) == 1


@pytest.mark.parametrize(
    ("keywords", "match"),
    [
        ({"MEDIUM": "water"}, r"MEDIUM: expected a known value of MEDIUM \(air, vacuum\)"),
        ({"FRAME": "barycentrik"}, r"found 'barycentrik'\. Did you mean 'barycentric'\?"),
        ({"RV": "fast"}, r"own\.ecsv, RV: expected the radial velocity in km/s.*found 'fast'"),
        ({"R": "high"}, r"own\.ecsv, R: expected the resolution.*found 'high'"),
    ],
)
def test_a_wrong_keyword_is_an_error(tmp_path, keywords, match):
    with pytest.raises(InputError, match=match):
        surveys.read(write(tmp_path / "own.ecsv", **{**KEYWORDS, **keywords}))


def test_a_wavelength_without_a_unit_is_an_error(tmp_path):
    path = tmp_path / "own.csv"
    head = "".join(f"# {key} = {value}\n" for key, value in KEYWORDS.items())
    path.write_text(head + "wavelength,flux,ivar\n500,1,1\n501,1,1\n")
    with pytest.raises(InputError, match=r"keyword WAVEUNIT: the unit of the wavelengths"):
        surveys.read(path)
    path.write_text(head + "# WAVEUNIT = nm\nwavelength,flux,ivar\n500,1,1\n501,1,1\n")
    np.testing.assert_allclose(surveys.read(path)[0].wavelength, [5000, 5010])


def test_errors_are_never_assumed_unless_asked(tmp_path):
    columns = {"flux": [1.0, 2.0, np.nan]}
    path = write(tmp_path / "own.ecsv", columns, **KEYWORDS)
    with pytest.raises(InputError, match=r"keyword SNR: the signal-to-noise a pixel to assume"):
        surveys.read(path)
    (spectrum,) = surveys.read(write(path, columns, **KEYWORDS, SNR=40))
    np.testing.assert_allclose(spectrum.ivar, [1600, 400, 0])
    both = {**columns, "ivar": [1.0] * 3, "error": [1.0] * 3}
    with pytest.raises(InputError, match=r"expected either ivar or error, found both"):
        surveys.read(write(path, both, **KEYWORDS))


def test_the_sidecar_serves_a_folder_and_single_files_and_does_not_contradict(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / f"{name}.ecsv", MEDIUM="vacuum")
    sidecar = tmp_path / "spectra.toml"
    sidecar.write_text(
        'FRAME = "rest"\nRV = 7.0\nr = 2000\nMEDIUM = "vacuum"\n["b.ecsv"]\nRV = -8.5\n'
    )
    assert surveys.read(tmp_path / "a.ecsv")[0].rv == 7.0
    assert surveys.read(tmp_path / "b.ecsv")[0].rv == -8.5
    sidecar.write_text(sidecar.read_text().replace("vacuum", "air"))
    with pytest.raises(
        InputError, match=r"one value of MEDIUM, found 'vacuum' in the file and 'air'"
    ):
        surveys.read(tmp_path / "a.ecsv")
    sidecar.write_text("RESOLUTION = 2000\n")
    with pytest.raises(InputError, match=r"spectra\.toml: expected a known keyword .*'RESOLUTION'"):
        surveys.read(tmp_path / "a.ecsv")
    sidecar.write_text("R = = 2\n")
    with pytest.raises(InputError, match=r"spectra\.toml: expected TOML"):
        surveys.read(tmp_path / "a.ecsv")


@pytest.mark.parametrize("kind", ["linear", "iraf", "paper3"])
def test_axes_of_images(tmp_path, kind):
    """The three axes against closed forms; the reference pixel is not the first."""
    pixel = np.arange(50) + 1.0
    primary = fits.PrimaryHDU(np.ones(50))
    header = {"CRPIX1": 11.0, "CUNIT1": "nm", "SNR": 10, **KEYWORDS}
    if kind == "linear":
        header |= {"CRVAL1": 500.0, "CD1_1": 0.1}
        expected = 500 + 0.1 * (pixel - 11)
    elif kind == "iraf":
        header |= {"CRVAL1": np.log10(500), "CDELT1": 1e-4, "DC-FLAG": 1}
        expected = 500 * 10 ** (1e-4 * (pixel - 11))
    else:
        header |= {"CRVAL1": 500.0, "CDELT1": 0.1, "CTYPE1": "WAVE-LOG"}
        expected = 500 * np.exp(0.1 * (pixel - 11) / 500)
    primary.header.update(header)
    primary.writeto(tmp_path / "image.fits")
    (spectrum,) = surveys.read(tmp_path / "image.fits")
    np.testing.assert_allclose(spectrum.wavelength, expected * 10, rtol=1e-12)


def test_an_image_without_a_reference_pixel_is_an_error(tmp_path, rng):
    path = generic.log_image(tmp_path, rng).path
    with fits.open(path, mode="update") as hdus:
        del hdus[0].header["CRPIX1"]
    with pytest.raises(InputError, match=r"iraf\.fits: expected CRPIX1"):
        surveys.read(path)


def test_last_of_all_specutils(tmp_path, rng):
    """An IRAF spectrum with a Chebyshev axis, which only specutils can read, and our keywords."""
    pytest.importorskip("specutils")
    flux = rng.uniform(5, 15, 60)
    primary = fits.PrimaryHDU(flux[None])
    primary.header.update(
        {
            "WCSDIM": 2,
            "CTYPE1": "MULTISPE",
            "CTYPE2": "MULTISPE",
            "CRVAL1": 1.0,  # a trap: the axis is in WAT2
            "CDELT1": 1.0,
            "WAT0_001": "system=multispec",
            "WAT1_001": "wtype=multispec label=Wavelength units=angstroms",
        }
    )
    # one Chebyshev polynomial of three terms between pixels 1 and 60, in cards of 68 characters
    axis = 'wtype=multispec spec1 = "1 1 2 5000. 0.1 60 0. 1. 1. 1. 0. 1 3 1. 60. 5010. 10. 0.5"'
    primary.header.update({"WAT2_001": axis[:68], "WAT2_002": axis[68:]})
    path = tmp_path / "iraf.fits"
    primary.writeto(path)
    with pytest.raises(InputError, match=r"iraf\.fits: expected the keyword SNR"):
        surveys.read(path)
    sidecar = 'MEDIUM = "vacuum"\nFRAME = "barycentric"\nRV = "unknown"\nR = 1800\nSNR = 20\n'
    (tmp_path / "spectra.toml").write_text(sidecar)
    (spectrum,) = surveys.read(path)
    assert spectrum.survey == "generic"
    x = np.linspace(-1, 1, 60)
    expected = np.polynomial.chebyshev.chebval(x, [5010.0, 10.0, 0.5])
    np.testing.assert_allclose(spectrum.wavelength, expected, rtol=1e-9)
    np.testing.assert_allclose(spectrum.flux, flux, rtol=1e-6)
    np.testing.assert_allclose(spectrum.ivar, (20 / flux) ** 2, rtol=1e-5)


def test_a_format_that_specutils_misreads_is_not_left_to_it(tmp_path):
    """Its axis of SDSS-I spectra is one pixel off: better no reader than that."""
    primary = fits.PrimaryHDU(np.ones((5, 60)))
    primary.header.update({"TELESCOP": "SDSS 2.5-M", "FIBERID": 17, "CRVAL1": 3.58, "CD1_1": 1e-4})
    path = tmp_path / "spSpec-51630-0266-017.fits"
    primary.writeto(path)
    with pytest.raises(InputError, match=r"spSpec.*expected spectra of LAMOST"):
        surveys.read(path)


@pytest.fixture
def miles(shared_data, tmp_path):
    """Links to twelve stars, and what their files do not say beside the links."""
    source = shared_data / "miles"
    with (source / "labels.csv").open() as stream:
        names = [row["file"] for row in csv.DictReader(stream)][:120:10]
    for name in names:
        (tmp_path / name).symlink_to(source / "spectra" / name)
    (tmp_path / "spectra.toml").write_text(
        'MEDIUM = "air"\nFRAME = "rest"\nRV = "unknown"\nWAVEUNIT = "Angstrom"\nSNR = 100\n'
    )
    return sorted(tmp_path.glob("*.fits.gz"))


@pytest.mark.data
def test_miles(miles):
    spectra = [spectrum for path in miles for spectrum in surveys.read(path)]
    assert len(spectra) == 12
    for spectrum in spectra:
        np.testing.assert_allclose(
            spectrum.wavelength, to_vacuum(3540.5 + 0.9 * np.arange(len(spectrum))), atol=1e-3
        )
        np.testing.assert_allclose(spectrum.resolution, spectrum.wavelength / 2.5, rtol=1e-6)
        assert spectrum.snr == pytest.approx(100)
        assert spectrum.frame == "rest"
    # at rest and in vacuum H-beta and Na D, one of which every star has, are where they belong
    lines = {4862.68: 8.0, 5891.58: 3.0}
    found = []
    for spectrum in spectra:
        for line, width in lines.items():
            near = np.abs(spectrum.wavelength - line) < width
            beside = (np.abs(spectrum.wavelength - line) < 30) & ~near
            depth = 1 - spectrum.flux[near] / np.median(spectrum.flux[beside])
            if depth.max() > 0.2:
                depth = np.where(depth > depth.max() / 2, depth, 0)
                found.append(np.sum(depth * spectrum.wavelength[near]) / depth.sum() - line)
    assert len(found) > 8
    assert abs(np.median(found)) < 0.3  # in air they would be 1.4 to 1.6 Å bluer


@pytest.mark.data
def test_the_labels_of_miles(miles, shared_data):
    table = surveys.read_labels(shared_data / "miles" / "labels.csv", "generic")
    assert table.labels.names == ("teff", "logg", "fe_h")
    assert 3000 < np.nanmedian(table.labels["teff"]) < 8000
    assert {path.name for path in miles} <= set(table.keys["file"])
