"""Ages and absolute magnitudes of simulated stars of the Galaxy, whose truth is known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pages import remarks, table
from spectrolabe.training.stars import GALACTIC, Stars
from spectrolabe.validation.metrics import mad
from unified_sky import SEED, SURVEYS, Sky, Views

__all__ = ["galactic", "section"]

SNR = (30.0, 150.0)
GIANT = 3.5  # log g below which a star is a giant
FOLDS = 10
TERMS = ("teff", "logg", "fe_h", "c_fe", "n_fe", "mg_fe")
Arrays = dict[str, NDArray]


def galactic(sky: Sky, survey: str, stars: Stars) -> Arrays:
    """Return truth, mean and sigma of all labels of stars of the Galaxy, each (N, L)."""
    rng = np.random.default_rng([SEED, 11, SURVEYS.index(survey)])
    snr = np.exp(rng.uniform(*np.log(SNR), len(stars)))
    seen: Views = sky.estimated(survey, stars, snr, [3])
    return {"truth": seen.truth, "mean": seen.mean, "sigma": seen.sigma, "snr": snr}


def _quadratic(terms: NDArray) -> NDArray:
    """Columns of a polynomial of degree two, (N, K)."""
    scaled = (terms - terms.mean(axis=0)) / terms.std(axis=0)
    count = scaled.shape[1]
    pairs = [scaled[:, i] * scaled[:, j] for i in range(count) for j in range(i, count)]
    return np.column_stack([np.ones(len(scaled)), scaled, *pairs])


def _baseline(terms: NDArray, truth: NDArray) -> NDArray:
    """Predictions of each part by a polynomial fitted to the others, (N,)."""
    design, found = _quadratic(terms), np.empty(len(truth))
    part = np.arange(len(truth)) % FOLDS
    for tried in (part == k for k in range(FOLDS)):
        weights = np.linalg.lstsq(design[~tried], truth[~tried], rcond=None)[0]
        found[tried] = design[tried] @ weights
    return found


def _rows(sky: Sky, name: str, all_: dict[str, Arrays]) -> list[list[str]]:
    j, logg = sky.names.index(name), sky.names.index("logg")
    columns = [sky.names.index(term) for term in TERMS]
    rows = []
    for survey, what in all_.items():
        giant = what["truth"][:, logg] < GIANT
        for kind, here in (("giants", giant), ("dwarfs", ~giant)):
            use = here & np.isfinite(what["truth"][:, j])
            truth, mean = what["truth"][use, j], what["mean"][use, j]
            error = mean - truth
            baseline = _baseline(what["mean"][use][:, columns], truth) - truth
            pull = error / what["sigma"][use, j]
            size = lambda e: f"{np.sqrt(np.mean(e**2)):.2f} / {np.mean(np.abs(e)):.2f}"  # noqa: E731
            rows.append(
                [
                    f"{survey}, {kind}",
                    str(use.sum()),
                    f"{truth.std():.2f}",
                    f"{np.median(error):+.2f}",
                    f"{mad(error):.2f}",
                    size(error),
                    size(baseline),
                    f"{np.mean(baseline**2) / np.mean(error**2):.2f}",
                    f"{np.median(pull):+.2f}",
                    f"{mad(pull):.2f}",
                    f"{np.std(pull):.2f}",
                ]
            )
    return rows


def section(sky: Sky, all_: dict[str, Arrays]) -> str:
    """The section of the page."""
    head = ["stars", "number", "spread", "bias", "1.4826 MAD", "RMSE / MAE"]
    head += ["polynomial: RMSE / MAE", "squared errors, polynomial / model", "pull median"]
    head += ["pull width", "pull std"]
    units = dict(zip(GALACTIC, ("mag", "Gyr"), strict=True))
    tables = [
        f"**{name}** [{units[name]}]\n\n{table(head, _rows(sky, name, all_))}" for name in GALACTIC
    ]
    return f"""## Ages and absolute magnitudes

Stars of the simulated Galaxy at S/N {SNR[0]:g}–{SNR[1]:g}; giants have log g < {GIANT:g}.
*Polynomial*: of degree two in the same model's estimates of {", ".join(TERMS)},
fitted for each survey and kind to nine tenths of these very stars and tried on the rest, in turn:
unlike the model it has been taught by stars of the Galaxy alone, seen by this survey at this S/N.

{(chr(10) * 2).join(tables)}

{remarks("ages")}"""
