"""APOGEE on its own files, against other readers and against the physics in the files."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from numpy.polynomial import hermite_e
from scipy.ndimage import median_filter

from spectrolabe import surveys
from spectrolabe.errors import InputError
from spectrolabe.surveys.apogee import APOGEE_BAD_PIXEL, ApogeePixel, ApogeeStar, AspcapFlag
from tests.surveys.writers.apogee import apstar_dr13

C = 299792.458  # km/s
CHIPS = ((246, 3274), (3585, 6080), (6344, 8335))  # pixels of the common grid
REPEATED = "2M00452143+1634446", "2M06154934-0100415", "2M07140394+3702459", "2M23200703+1150071"


def folder(shared_data):
    return shared_data / "apogee" / "dr13_visits"


def star_file(shared_data, star):
    return folder(shared_data) / f"apStar-r6-{star}.fits.gz"


def flattened(spectrum):
    """Flux over its running median in each chip, and the error of that; NaN where not usable."""
    flux = np.where(spectrum.good, spectrum.flux, np.nan)
    level = np.full(len(flux), np.nan)
    for first, last in CHIPS:
        chip = flux[first:last]
        chip = np.where(np.isfinite(chip), chip, np.nanmedian(chip))
        level[first:last] = median_filter(chip, 301, mode="nearest")
    with np.errstate(divide="ignore"):
        error = np.where(spectrum.good, 1 / np.sqrt(spectrum.ivar), np.nan)
    return flux / level, error / level


def robust_std(values):
    return 1.4826 * np.median(np.abs(values - np.median(values)))


def lag(spectrum, template, velocities):
    """Velocity that takes a spectrum onto a template at rest, from the cross-correlation, km/s."""
    goal, _ = flattened(template)
    good = spectrum.good
    match = []
    for v in velocities:
        there = template.wavelength * (1 + v / C)
        moved = np.interp(there, spectrum.wavelength[good], spectrum.flux[good])
        own, _ = flattened(template.replace(flux=moved))
        both = np.isfinite(own) & np.isfinite(goal)
        match.append(np.corrcoef(own[both], goal[both])[0, 1])
    return velocities[int(np.argmax(match))]


def test_the_bits_have_their_documented_numbers():
    numbers = {bit.name: int(bit).bit_length() - 1 for bit in ApogeePixel}
    assert numbers["NOSKY"] == 7
    assert numbers["SIG_SKYLINE"] == 12
    assert numbers["NOT_ENOUGH_PSF"] == 14
    assert int(APOGEE_BAD_PIXEL) == 255 + 2**12 + 2**14 + 2**16 + 2**24
    assert int(ApogeeStar.SUSPECT_BROAD_LINES) == 2**17
    assert int(AspcapFlag.STAR_BAD) == 2**23
    assert int(AspcapFlag.MULTIPLE_SUSPECT) == 2**41


def test_rows_that_do_not_fit_the_visits_are_an_error(tmp_path):
    case = apstar_dr13(tmp_path, np.random.default_rng(0))
    with fits.open(case.path, mode="update") as hdus:
        hdus[0].header["NVISITS"] = 4
    with pytest.raises(InputError, match=r"two co-adds and 4 visits .* found 5 rows"):
        surveys.read(case.path)


@pytest.mark.data
def test_every_real_file_is_read(shared_data):
    counts = {"apStar": 0, "aspcapStar": 0, "apVisit": 0}
    for path in sorted(folder(shared_data).glob("*.fits.gz")):
        spectra = surveys.read(path)
        counts[path.name.split("-")[0]] += 1
        assert all(s.survey == "apogee" and s.star_id.startswith("2M") for s in spectra)
        for spectrum in spectra:
            assert 0.55 < spectrum.good.mean() < 0.95
    assert counts == {"apStar": 8, "aspcapStar": 8, "apVisit": 9}


@pytest.mark.data
@pytest.mark.parametrize("star", REPEATED)
def test_visits_agree_with_the_co_add_within_their_errors(shared_data, star):
    combined, *others = surveys.read(star_file(shared_data, star))
    visits = [s for s in others if not s.meta["coadd"]]
    assert len(visits) == combined.meta["nvisits"]
    flux, _ = flattened(combined)
    for visit in visits:
        assert visit.rv == pytest.approx(combined.rv, abs=1.5)
        assert visit.meta["vrad"] == pytest.approx(visit.rv - visit.meta["bc"], abs=1e-3)
        own, error = flattened(visit)
        pull = (own - flux) / error
        pull = pull[np.isfinite(pull)]
        assert len(pull) > 5000
        assert 0.5 < robust_std(pull) < 1.4  # below 1: a visit is a part of the co-add
        assert np.mean(np.abs(pull) > 5) < 0.02


@pytest.mark.data
def test_sky_lines_have_errors_that_are_too_small_and_other_flags_do_not(shared_data):
    """Why SIG_SKYLINE is rejected and the other informational bits are not."""
    pulls = {"SIG_SKYLINE": [], "SIG_TELLURIC": [], "PERSIST_HIGH": [], "none": []}
    for star in REPEATED:
        with fits.open(star_file(shared_data, star)) as hdus:
            flux, error, mask = (hdus[i].data[2:] for i in (1, 2, 3))
        inside = np.concatenate([np.arange(first, last) for first, last in CHIPS])
        flux, error, mask = (x[:, inside].astype(float) for x in (flux, error, mask))
        level = median_filter(flux, (1, 301), mode="nearest")
        difference = (flux[0] / level[0] - flux[1] / level[1]) / np.hypot(
            error[0] / level[0], error[1] / level[1]
        )
        either = mask[0].astype(int) | mask[1].astype(int)
        pulls["none"].append(difference[either == 0])
        for name in ("SIG_SKYLINE", "SIG_TELLURIC", "PERSIST_HIGH"):
            pulls[name].append(difference[either == int(ApogeePixel[name])])
    spread = {name: robust_std(np.concatenate(values)) for name, values in pulls.items()}
    assert spread["SIG_SKYLINE"] > 2
    assert max(spread["none"], spread["SIG_TELLURIC"], spread["PERSIST_HIGH"]) < 1.5


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "number"), [("2M06154934-0100415-0", 1), ("2M06154934-0100415-2", 3)]
)
def test_a_visit_moved_by_vhelio_minus_bc_falls_on_the_rest_frame(shared_data, name, number):
    """The barycentric correction is 27 and 22 km/s: its sign, and the frame, cannot be mistaken."""
    (visit,) = surveys.read(folder(shared_data) / f"apVisit-{name}.fits.gz")
    combined, *others = surveys.read(star_file(shared_data, visit.star_id))
    same = next(s for s in others if s.meta["row"] == f"visit{number}")
    assert visit.meta["bc"] == pytest.approx(same.meta["bc"], abs=1e-3)
    expected = same.rv - same.meta["bc"]
    found = lag(visit, combined, np.arange(expected - 60, expected + 60, 1.0))
    assert found == pytest.approx(expected, abs=1.5)
    assert visit.frame == "observed"


@pytest.mark.data
def test_the_velocity_of_a_visit_is_used_only_where_its_chips_agree(shared_data):
    """The first guess fails for the coolest stars, by hundreds of km/s."""
    known = 0
    for path in sorted(folder(shared_data).glob("apVisit-*.fits.gz")):
        (visit,) = surveys.read(path)
        _, *rows = surveys.read(star_file(shared_data, visit.star_id))
        fibre = f"{str(visit.meta['plate']).strip()}-{visit.meta['mjd5']}"
        final = next(s.meta["vrad"] for s in rows if fibre in str(s.meta.get("sfile")))
        guess = visit.meta["vhelio"] - visit.meta["bc"]
        if np.isnan(visit.rv):
            assert abs(guess - final) > 100
        else:
            known += 1
            assert visit.rv == pytest.approx(guess)
            assert visit.rv == pytest.approx(final, abs=6)
    assert known == 2


@pytest.mark.data
def test_normalised_spectra_are_the_co_adds_over_a_smooth_continuum(shared_data):
    for star in REPEATED:
        combined = surveys.read(star_file(shared_data, star))[0]
        (path,) = folder(shared_data).glob(f"aspcapStar-*{star}*")
        (normalised,) = surveys.read(path)
        assert normalised.rv == combined.rv
        assert 0.7 < np.median(normalised.flux[normalised.good]) < 1.1
        first, _ = flattened(combined)
        second, _ = flattened(normalised)
        match = []
        for pixels in (-1, 0, 1):
            moved = np.roll(second, pixels)
            both = np.isfinite(first) & np.isfinite(moved)
            assert both.sum() > 4000
            match.append(np.corrcoef(first[both], moved[both])[0, 1])
        assert match[1] > 0.98
        assert max(match[0], match[2]) < match[1] - 0.02


@pytest.mark.data
def test_the_resolution_is_that_of_the_line_spread_function_in_the_file(shared_data):
    """A Gauss-Hermite series in pixels of 6e-6 dex, averaged over a pixel (Nidever et al. 2015)."""
    path = star_file(shared_data, REPEATED[0])
    with fits.open(path) as hdus:
        parameters = hdus[8].data
    order, terms = int(parameters[2]), parameters[9:21].reshape(6, 2)
    sigma, *hermite = terms[:, 0]  # at the middle of the array
    assert order == len(hermite)
    norm = np.sqrt([1.0, 2.0, 6.0, 24.0, 120.0])
    x = np.linspace(-12, 12, 24001)
    profile = np.exp(-0.5 * (x / sigma) ** 2)
    profile *= hermite_e.hermeval(x / sigma, [1.0, *(np.array(hermite) / norm)])
    profile = np.convolve(profile, np.ones(1000), "same")
    wide = x[profile > profile.max() / 2]
    fwhm = (wide[-1] - wide[0]) * 6e-6 * np.log(10)
    assert surveys.read(path)[0].resolution == pytest.approx(1 / fwhm, rel=0.03)


@pytest.mark.data
def test_specutils_agrees_but_keeps_one_row_and_no_mask(shared_data):
    specutils = pytest.importorskip("specutils")
    path = star_file(shared_data, REPEATED[0])
    ours = surveys.read(path)
    theirs = specutils.Spectrum.read(str(path), format="APOGEE apStar")
    np.testing.assert_allclose(theirs.spectral_axis.value, ours[0].wavelength, rtol=1e-12)
    np.testing.assert_array_equal(theirs.flux.value, ours[0].flux)
    good = ours[0].good
    error = theirs.uncertainty.array
    np.testing.assert_allclose(ours[0].ivar[good], error[good].astype(float) ** -2, rtol=1e-5)
    # what it lacks: four of five rows, and the mask, so that 300 bad pixels look like any other
    assert len(ours) == 5
    assert theirs.mask is None
    assert np.sum((error < 3 * np.median(error)) & ~good) > 300
    # and it cannot read a star with one visit, whose arrays have one dimension in DR13
    single = star_file(shared_data, "2M03290406+3117075")
    with pytest.raises(IndexError):
        specutils.Spectrum.read(str(single), format="APOGEE apStar")
    assert len(surveys.read(single)) == 1


@pytest.mark.data
def test_specutils_agrees_on_a_visit_but_not_in_order(shared_data):
    specutils = pytest.importorskip("specutils")
    path = shared_data / "apogee" / "apVisit-r8-4914-55807-100.fits"
    (ours,) = surveys.read(path)
    theirs = specutils.Spectrum.read(str(path), format="APOGEE apVisit")
    assert np.all(np.diff(theirs.spectral_axis.value) < 0)
    np.testing.assert_array_equal(theirs.spectral_axis.value[::-1], ours.wavelength)
    np.testing.assert_array_equal(theirs.flux.value[::-1], ours.flux)
    assert theirs.mask is None
    # an A star: nothing for the three chips to agree on, and its header says so
    assert ours.meta["vscatter"] > 10
    assert np.isnan(ours.rv)


@pytest.mark.data
def test_specutils_agrees_on_a_normalised_spectrum(shared_data):
    specutils = pytest.importorskip("specutils")
    path = min(folder(shared_data).glob("aspcapStar-*"))
    (ours,) = surveys.read(path)
    theirs = specutils.Spectrum.read(str(path), format="APOGEE aspcapStar")
    np.testing.assert_allclose(theirs.spectral_axis.value, ours.wavelength, rtol=1e-12)
    np.testing.assert_array_equal(theirs.flux.value, ours.flux)
    assert theirs.mask is None
    assert np.all(theirs.uncertainty.array[ours.good] < 1)
