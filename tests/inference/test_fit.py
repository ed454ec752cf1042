"""Fits of made-up stars: what went in comes out, within errors that are right."""

import numpy as np
import pytest

from spectrolabe.catalogue import LabelFlag, ResultFlag
from spectrolabe.errors import InputError
from spectrolabe.inference.fit import fit
from spectrolabe.inference.priors import Priors
from spectrolabe.labels import Labels
from spectrolabe.spectra import Frame
from tests.inference.made_up import EMULATOR, draw_labels, grid, spectra

SOME = ("teff", "logg", "fe_h", "mg_fe")
COLUMNS = [EMULATOR.names.index(name) for name in SOME]
LABELS = draw_labels(4, seed=1)


def run(stars, **options):
    stars = [[star] if not isinstance(star, list) else star for star in stars]
    return fit(stars, [EMULATOR], **{"model_error": 0.0, **options})


@pytest.fixture(scope="module")
def many():
    labels = draw_labels(64, width=0.4)
    return labels, run(spectra(labels, rv=15.0, v_broad=20.0))


@pytest.fixture(scope="module")
def few():
    """Four stars, of which some labels are fitted and the others known."""
    return known(spectra(LABELS, rv=15.0))


def known(stars, **options):
    rest = {n: LABELS[: len(stars), i] for i, n in enumerate(EMULATOR.names) if n not in SOME}
    return run(stars, labels=SOME, **{"fixed": rest, **options})


def test_labels_are_recovered_within_their_errors(many):
    labels, result = many
    assert result.names == EMULATOR.names
    at_the_edge = result.result_flags == ResultFlag.OUT_OF_COVERAGE
    assert not result.result_flags[~at_the_edge].any()
    assert at_the_edge.mean() < 0.03  # one of them is
    pull = (result.values - labels) / result.sigma
    assert np.isfinite(pull).mean() > 0.99
    assert np.nanstd(pull) == pytest.approx(1.0, abs=0.05)
    assert np.nanmean(pull) == pytest.approx(0.0, abs=0.05)
    each = np.nanstd(pull, axis=0)  # of 64 values: 1 +- 0.09
    assert ((each > 0.65) & (each < 1.35)).all()


def test_velocity_broadening_and_chi2_are_recovered(many):
    _, result = many
    assert np.std((result.rv[:, 0] - 15.0) / result.e_rv[:, 0]) == pytest.approx(1.0, abs=0.25)
    assert np.std((result.v_broad - 20.0) / result.e_v_broad) == pytest.approx(1.0, abs=0.25)
    freedom = result.n_pixels - result.n_parameters
    score = (result.chi2 - freedom) / np.sqrt(2 * freedom)
    assert score.mean() == pytest.approx(0.0, abs=0.5)
    assert score.std() == pytest.approx(1.0, abs=0.3)
    assert result.n_clipped.max() <= 1


def test_covariance_and_posterior_agree(many):
    _, result = many
    assert result.posterior.names == result.names
    assert (result.posterior.sigma == result.sigma)[np.isfinite(result.sigma)].all()
    assert (result.covariance >= result.formal_covariance * 0.999).diagonal(0, 1, 2).all()


def test_model_spectra_are_those_of_the_labels(few):
    star = spectra(LABELS, rv=15.0)[2]
    model = few.models[2][0]
    flux = EMULATOR.flux(
        few.all_labels[2:3], star.wavelength, 11500.0, rv=few.shift[2, 0], v_broad=few.v_broad[2]
    )[0]
    assert model.flux / model.continuum == pytest.approx(flux, abs=1e-5)
    residual = (star.flux - model.flux) * np.sqrt(star.ivar)
    assert (residual[model.used] ** 2).sum() == pytest.approx(few.chi2[2], rel=1e-4)
    assert model.used.sum() == few.n_pixels[2]


def test_no_label_may_be_fitted(few):
    star = spectra(LABELS[:1], rv=15.0)
    start = Labels(EMULATOR.names, LABELS[:1], np.full_like(LABELS[:1], np.nan), ["a"])
    result = run(star, labels=(), start=start)
    assert result.names == ()
    assert np.array_equal(result.all_labels, LABELS[:1])
    assert result.rv[0, 0] == pytest.approx(15.0, abs=5 * result.e_rv[0, 0])
    assert result.chi2_reduced[0] == pytest.approx(1.0, abs=0.15)
    away = run(star, labels=(), start=Labels(("teff",), LABELS[:1, :1] + 400.0, [[1.0]], ["a"]))
    assert away.chi2_reduced[0] > 1.15 * result.chi2_reduced[0]
    held = dict(zip(EMULATOR.names, LABELS[0], strict=True))
    with pytest.raises(InputError, match="found none"):
        run(star, fixed=held)


def test_order_and_company_do_not_matter(few):
    stars = spectra(LABELS, rv=15.0)
    turned = run(
        [stars[2], stars[0]],
        labels=SOME,
        fixed={n: LABELS[[2, 0], i] for i, n in enumerate(EMULATOR.names) if n not in SOME},
    )
    assert turned.star_id.tolist() == ["star2", "star0"]
    difference = (turned.values - few.values[[2, 0]]) / few.sigma[[2, 0]]
    assert difference == pytest.approx(np.zeros_like(difference), abs=0.02)


def test_units_do_not_matter(few):
    stars = [
        s.replace(flux=s.flux * np.float32(1000), ivar=s.ivar / np.float32(1e6))
        for s in spectra(LABELS, rv=15.0)
    ]
    scaled = known(stars)
    assert (scaled.values - few.values) / few.sigma == pytest.approx(np.zeros((4, 4)), abs=0.02)
    assert scaled.chi2 == pytest.approx(few.chi2, rel=1e-3)
    assert scaled.models[0][0].flux == pytest.approx(1000 * few.models[0][0].flux, rel=1e-4)


def test_what_masked_pixels_hold_does_not_matter():
    def masked(filling):
        stars = []
        for star in spectra(LABELS[:2], rv=15.0):
            flux, ivar = star.flux.copy(), star.ivar.copy()
            ivar[300:400] = 0
            flux[300:400] = filling
            stars.append(star.replace(flux=flux, ivar=ivar))
        return known(stars)

    one, other = masked(np.nan), masked(1e6)
    assert one.n_pixels[0] == len(grid()) - 100
    assert np.array_equal(one.values, other.values)
    assert not one.models[0][0].used[300:400].any()


def test_cosmic_rays_are_left_out(few):
    stars = []
    for star in spectra(LABELS, rv=15.0):
        flux = star.flux.copy()
        flux[::100] *= 5
        stars.append(star.replace(flux=flux))
    hit = known(stars)
    count = len(range(0, len(grid()), 100))
    assert (np.abs(hit.n_clipped - count) <= 1).all()
    assert (np.abs(hit.values - few.values) < 0.7 * few.sigma).all()
    assert hit.sigma == pytest.approx(few.sigma, rel=0.15)


def test_instruments_of_a_star_are_fitted_together(few):
    one = spectra(LABELS, rv=15.0)
    other = spectra(LABELS, rv=-30.0, resolution=4000.0, seed=5, survey="another")
    alone = known(other)
    both = known([list(pair) for pair in zip(one, other, strict=True)])
    assert both.rv.shape == (4, 2)
    assert (np.abs(both.rv - [15.0, -30.0]) < 4 * both.e_rv).all()
    weight = 1 / few.sigma**2 + 1 / alone.sigma**2
    assert not (both.sigma > few.sigma * 1.01).any()
    told = np.isfinite(weight)  # one spectrum alone does not tell each label
    assert told.mean() > 0.9
    assert both.sigma[told] == pytest.approx(1 / np.sqrt(weight[told]), rel=0.25)
    assert (np.abs(both.fitted - LABELS[:, COLUMNS]) < 4 * both.sigma).all()
    assert len(both.models[0]) == 2
    assert both.chi2 == pytest.approx(few.chi2 + alone.chi2, rel=0.05)


def test_stars_with_different_spectra_in_one_call(few):
    stars = spectra(LABELS, rv=15.0)
    other = spectra(LABELS, rv=-30.0, resolution=4000.0, seed=5)
    mixed = known([stars[0], other[1], [stars[2], other[2]], stars[3]])
    assert mixed.rv.shape == (4, 2)
    assert np.isnan(mixed.rv[[0, 1, 3], 1]).all()
    same = np.abs(mixed.values - few.values)[[0, 3]] / few.sigma[[0, 3]]
    assert same == pytest.approx(np.zeros_like(same), abs=0.02)


def test_a_label_without_information_is_nan():
    wavelength = grid(5030.0, 5060.0)
    result = run(spectra(LABELS, snr=4.0, wavelength=wavelength), continuum=2, v_broad=False)
    unknown = np.isnan(result.values)
    assert unknown.any()
    assert (result.label_flags[unknown] == LabelFlag.NO_INFORMATION).all()
    assert not (result.label_flags[~unknown] & LabelFlag.NO_INFORMATION).any()
    assert np.isfinite(result.fitted).all()
    prior = Priors.weak(EMULATOR).sigma(result.names)
    width = 0.5 * np.where(np.isfinite(prior), prior, EMULATOR.spread)
    assert (result.sigma <= width)[~unknown].all()
    assert np.isnan(result.posterior.mean).sum() == unknown.sum()


def test_labels_stop_at_the_edge_of_the_emulator():
    labels = LABELS.copy()
    labels[:, 0] = EMULATOR.high[0] + 500.0
    result = known(spectra(labels, rv=15.0))
    assert result.values[:, 0] == pytest.approx(np.full(4, EMULATOR.high[0]))
    assert (result.label_flags[:, 0] == LabelFlag.ABOVE_TRAINING).all()
    assert (result.result_flags & ResultFlag.OUT_OF_COVERAGE > 0).all()


def test_errors_grow_where_the_model_does_not_fit():
    star = spectra(LABELS[:1], rv=15.0)[0]
    result = known([star.replace(ivar=star.ivar * 4)])
    usual = known([star])
    assert result.chi2_reduced[0] == pytest.approx(4.0, rel=0.1)
    assert result.sigma == pytest.approx(usual.sigma, rel=0.1)
    formal = np.sqrt(np.diagonal(result.formal_covariance[0]))
    assert formal == pytest.approx(0.5 * usual.sigma[0], rel=0.1)


def test_model_error_widens_the_errors():
    star = spectra(LABELS[:1], rv=15.0, snr=300.0)[0]
    wide, narrow = known([star], model_error=(0.01, 0.0)), known([star])
    assert (wide.sigma > 2 * narrow.sigma).all()
    level = np.sqrt(wide.models[0][0].variance_floor) / wide.models[0][0].continuum
    assert np.median(level) == pytest.approx(0.01, rel=0.15)
    assert narrow.models[0][0].variance_floor.max() < 1e-3 / star.ivar.max()


def test_priors_count_as_chi2_says():
    star = spectra(LABELS[:1], rv=15.0)[0]
    prior = {"teff": (LABELS[0, 0] + 100.0, 30.0)}
    usual = known([star], priors=prior)
    bold = known([star.replace(ivar=star.ivar * 4)], priors=prior)
    assert abs(usual.fitted[0, 0] - LABELS[0, 0]) > 10.0  # the prior has moved it
    assert bold.fitted[0, 0] == pytest.approx(usual.fitted[0, 0], abs=4.0)


def test_priors_pull(few):
    stars = spectra(LABELS, rv=15.0)
    wanted = LABELS[0, 0] + 200.0
    result = known(stars[:1], priors={"teff": (wanted, 1.0)})
    assert result.fitted[0, 0] == pytest.approx(wanted, abs=10.0)
    assert result.priors["teff"] == [wanted, 1.0]
    assert known(stars[:1], priors="none").priors == {}
    assert "mg_fe" in few.priors


def test_the_start_does_not_matter(few):
    far = LABELS[:, COLUMNS] + 0.8 * EMULATOR.spread[COLUMNS]
    start = Labels(SOME, far, np.full(far.shape, np.nan), np.array(["a", "b", "c", "d"]))
    result = known(spectra(LABELS, rv=15.0), start=start)
    assert (result.values - few.values) / few.sigma == pytest.approx(np.zeros((4, 4)), abs=0.05)


def test_noise_has_no_labels():
    star = spectra(LABELS[:1], rv=15.0)[0]
    seen = np.median(star.flux) * (1 + 0.1 * np.random.default_rng(1).standard_normal(len(star)))
    noise = star.replace(flux=seen, ivar=np.full(len(star), (0.1 * np.median(seen)) ** -2.0))
    result = known([noise.replace(rv=np.nan)])
    assert np.isnan(result.values).all()
    assert result.result_flags[0] == ResultFlag.NO_VELOCITY | ResultFlag.NO_RESULT
    assert "no lines" in result.messages[0][1]


def test_rest_frame_keeps_the_velocity_that_was_taken_out():
    star = spectra(LABELS[:1])[0].replace(frame=Frame.REST, rv=100.0)
    result = known([star])
    assert result.shift[0, 0] == pytest.approx(0.0, abs=3.0)
    assert result.rv[0, 0] == pytest.approx(100.0 + result.shift[0, 0], abs=0.01)


def test_a_star_that_cannot_be_fitted_says_why(few):
    stars = spectra(LABELS, rv=15.0)
    sharp = stars[1].replace(resolution=50_000.0)
    ivar = np.zeros_like(stars[2].ivar)
    ivar[100:110] = stars[2].ivar[100:110]
    result = known([stars[0], sharp, stars[2].replace(ivar=ivar), stars[3]])
    assert (result.result_flags & ResultFlag.NO_RESULT > 0).tolist() == [False, True, True, False]
    assert "28000" in " ".join(result.messages[1])
    assert result.result_flags[2] & ResultFlag.FEW_PIXELS
    assert np.isnan(result.values[1:3]).all()
    assert np.isnan(result.posterior.mean[1:3]).all()
    assert result.models[1] == ()
    same = np.abs(result.values - few.values)[[0, 3]] / few.sigma[[0, 3]]
    assert same == pytest.approx(np.zeros_like(same), abs=0.02)


def test_a_search_agrees(few):
    options = {"method": "cma", "options": {"runs": 2, "rounds": 1}, "seed": 3}
    star = spectra(LABELS, rv=15.0)[:1]
    result, again = known(star, **options), known(star, **options)
    assert result.evaluations[0] > 100
    assert (np.abs(result.values[0] - few.values[0]) < 0.05 * few.sigma[0]).all()
    assert np.array_equal(result.values, again.values)


def test_samples_agree(few):
    options = {"walkers": 32, "burn_in": 50, "steps": 100}
    result = known(spectra(LABELS, rv=15.0)[:1], method="mcmc", options=options, seed=3)
    assert result.evaluations[0] > 3000
    assert (np.abs(result.values[0] - few.values[0]) < 0.3 * few.sigma[0]).all()
    assert result.sigma[0] == pytest.approx(few.sigma[0], rel=0.25)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": ["m_h"]}, "m_h"),
        ({"labels": ["teff", "teff"]}, "more than once"),
        ({"labels": ["teff"], "fixed": {"teff": 5000.0}}, "more than once"),
        ({"method": "guess"}, "lm"),
        ({"continuum": -1}, "order"),
        ({"model_error": -0.1}, "model_error"),
        ({"model_error": (0.1, 0.1, 0.1)}, "model_error"),
        ({"priors": "strong"}, "weak"),
        ({"start": Labels(("teff",), [[5000.0]] * 2, [[1.0]] * 2, ["a", "b"])}, "a row for each"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(InputError, match=message):
        run(spectra(LABELS[:1]), **options)


def test_without_emulators_or_stars():
    with pytest.raises(InputError, match="emulators"):
        fit([spectra(LABELS[:1])], [])
    with pytest.raises(InputError, match="stars"):
        fit([], [EMULATOR])
