"""Flux of visits without their noise: errors, stars that are rare, and how it looks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from figures import STYLE
from pages import table
from spectrolabe.models.denoiser import Denoiser
from spectrolabe.spectra import Spectrum
from spectrolabe.spectra.combine import combine, level_of, level_width
from spectrolabe.validation.metrics import mad
from twins_visits import BINS, Test

__all__ = ["FLUXED", "MOST", "drawn", "emission", "errors_of", "flux", "rare"]

CORE = 0.01  # of the height of a line, within which it is looked for
MOST = 6.0  # of a pull, in root mean squares
FLUXED = 60  # visits a bin whose flux is looked at


def flux(test: Test, denoisers: dict[str, Denoiser]) -> str:
    """Errors of flux by S/N."""
    rng, rows = np.random.default_rng(2), []
    for b, (low, high) in enumerate(BINS):
        chosen = rng.permutation(np.flatnonzero(test.inside(b)))[:FLUXED]
        visits = [test.visits[i] for i in chosen]
        others = [
            combine([test.store[k] for k in test.pairs[i].others], test.visits[i]) for i in chosen
        ]
        every = [
            combine([test.store[k] for k in (test.pairs[i].visit, *test.pairs[i].others)], v)
            for i, v in zip(chosen, visits, strict=True)
        ]
        exact = test.exact(chosen)
        again = test.again(chosen, exact)
        rows.append(
            [
                f"{low:.0f}–{high:.0f}",
                "the visit",
                *_from_truth(again, exact),
                *_from_means(visits, every, others),
            ]
        )
        rows.append(
            [
                "",
                "its twins together",
                *_from_truth(others, exact),
                *_from_means(others, every, others),
            ]
        )
        for name, denoiser in denoisers.items():
            anew, made = (_without(denoiser, seen) for seen in (again, visits))
            rows.append(["", name, *_from_truth(anew, exact), *_from_means(made, every, others)])
    head = ["S/N", "spectrum", "error [%]", "pulls", "from all visits [%]", "from the twins [%]"]
    return table(head, rows)


def errors_of(test: Test, chosen: NDArray, denoiser: Denoiser) -> list[str]:
    """Noise of visits, what is left of it, and the width of the pulls."""
    chosen = np.random.default_rng(9).permutation(chosen)[:FLUXED]
    exact = test.exact(chosen)
    again = test.again(chosen, exact)
    return [_from_truth(again, exact)[0], *_from_truth(_without(denoiser, again), exact)]


def _without(denoiser: Denoiser, visits: Sequence[Spectrum]) -> list[Spectrum]:
    return [found[0] for found in denoiser.denoise([[one] for one in visits])]


def _from_truth(made: Sequence[Spectrum], exact: Sequence[Spectrum]) -> list[str]:
    """Error in per cent of the median flux, and widths of the pulls.

    Medians over spectra of 1.4826 MAD, and the root mean square over the pixels of all.
    """
    found, squares = [], []
    for one, truth in zip(made, exact, strict=True):
        use = one.good & truth.good
        error = (one.flux - truth.flux)[use]
        pulls = error * np.sqrt(one.ivar[use])
        found.append([mad(error) / np.median(truth.flux[use]), mad(pulls)])
        squares.append(np.clip(pulls, -MOST, MOST) ** 2)
    error, pull = np.median(found, axis=0)
    rms = np.sqrt(np.mean(np.concatenate(squares)))
    return [f"{100 * error:.2f}", f"{pull:.2f}, {rms:.2f}"]


def _from_means(
    made: Sequence[Spectrum], every: Sequence[Spectrum], others: Sequence[Spectrum]
) -> list[str]:
    """Differences from the mean of all visits and from that of the twins, in per cent."""
    found = []
    for one, whole, twins in zip(made, every, others, strict=True):
        use = one.good & whole.good & twins.good
        found.append(
            [mad((one.flux - x.flux)[use]) / np.median(x.flux[use]) for x in (whole, twins)]
        )
    return [f"{100 * x:.2f}" for x in np.median(found, axis=0)]


def rare(test: Test, denoisers: dict[str, Denoiser]) -> str:
    """How deep the lines of unusual stars are after their noise is taken off."""
    fe_h, alpha, broad = (np.asarray(test.columns[n], float) for n in ("fe_h", "mg_fe", "v_broad"))
    kinds = {
        "all": np.ones(len(fe_h), dtype=bool),
        "[Fe/H] < -1": fe_h < -1.0,
        "[Mg/Fe] > 0.25, [Fe/H] > -0.6": (alpha > 0.25) & (fe_h > -0.6),
        "v_broad > 15 km/s": broad > 15.0,
    }
    rows = []
    for kind, here in kinds.items():
        usual = here & (test.snr > BINS[0][0]) & (test.snr < BINS[-1][1])
        chosen = np.random.default_rng(4).permutation(np.flatnonzero(usual))[:FLUXED]
        visits = [test.visits[i] for i in chosen]
        exact = test.exact(chosen)
        for name, denoiser in denoisers.items():
            made = _without(denoiser, visits)
            each = [_depth(*pair) for pair in zip(made, exact, visits, strict=True)]
            slope, error, raw = np.median(each, axis=0)
            rows.append(
                [
                    kind,
                    str(len(chosen)),
                    name,
                    f"{slope:.3f}",
                    f"{100 * error:.2f}",
                    f"{100 * raw:.2f}",
                ]
            )
    head = ["stars", "visits", "denoiser", "slope", "error of lines [%]", "of the visit [%]"]
    return table(head, rows)


def _depth(made: Spectrum, exact: Spectrum, visit: Spectrum) -> tuple[float, float, float]:
    """Slope of the lines with the true ones, and errors of both."""
    use = made.good & exact.good & visit.good
    true, own, raw = (_lines(one, use) for one in (exact, made, visit))
    slope = float(np.sum(true * own) / np.sum(true**2))
    return slope, mad(own - true), mad(raw - true)


def _lines(one: Spectrum, use: NDArray) -> NDArray:
    """Flux over its running mean, less 1, where it is used."""
    flux = np.where(use, one.flux, 0.0)
    return (flux / level_of(one.wavelength, flux, use.astype(float), level_width(one)) - 1.0)[use]


def emission(test: Test, denoisers: dict[str, Denoiser]) -> str:
    """What share is left of emission lines that were added to visits."""
    rng = np.random.default_rng(6)
    chosen = rng.permutation(np.flatnonzero((test.snr > 15) & (test.snr < 60)))[:FLUXED]
    visits = [test.visits[i] for i in chosen]
    rows = []
    for strength in (3.0, 10.0, 30.0):
        bright, lines = [], []
        for one in visits:
            at = rng.choice(np.flatnonzero(one.good)[200:-200])
            width = one.wavelength[at] / np.median(one.resolution) / 2.355 * 1.5
            sigma = 1.0 / np.sqrt(np.median(one.ivar[one.good]))
            line = np.exp(-0.5 * ((one.wavelength - one.wavelength[at]) / width) ** 2)
            lines.append(strength * sigma * line)
            bright.append(one.replace(flux=one.flux + lines[-1]))
        cells = []
        for denoiser in denoisers.values():
            found, plain = (_without(denoiser, x) for x in (bright, visits))
            kept = [_share(a, b, line) for a, b, line in zip(found, plain, lines, strict=True)]
            low, middle, high = np.quantile(kept, (0.16, 0.5, 0.84))
            cells.append(f"{middle:.2f} ({low:.2f}–{high:.2f})")
        rows.append([f"{strength:.0f} σ", *cells])
    return table(["height", *denoisers], rows)


def _share(bright: Spectrum, plain: Spectrum, line: NDArray) -> float:
    """How much of a line is where it was put; the level, which takes up what is lost, is not."""
    use = bright.good & plain.good & (line > CORE * line.max())
    return float(np.sum((bright.flux - plain.flux)[use] * line[use]) / np.sum(line[use] ** 2))


def drawn(test: Test, denoiser: Denoiser, path: Path) -> None:
    """Draw a stretch of some visits: as recorded, without noise, and the truth."""
    import matplotlib.pyplot as plt

    stretch = (15990.0, 16090.0)
    fe_h, teff, logg = (np.asarray(test.columns[n], float) for n in ("fe_h", "teff", "logg"))
    faint = (test.snr > 12) & (test.snr < 20)
    kinds = {
        "giant": faint & (logg < 2.5) & (fe_h > -0.3),
        "metal-poor giant": faint & (logg < 3.0) & (fe_h < -0.9),
        "dwarf": faint & (logg > 4.0) & (teff > 5800),
    }
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(len(kinds), 1, figsize=(9.0, 6.5), sharex=True)
        for axis, (kind, here) in zip(axes, kinds.items(), strict=True):
            i = np.flatnonzero(here)[0]
            visit, (exact,) = test.visits[i], test.exact([i])
            (made,) = _without(denoiser, [visit])
            inside = (visit.wavelength > stretch[0]) & (visit.wavelength < stretch[1])
            level = np.median(exact.flux[inside])
            for one, style in (
                (visit, {"color": "0.75", "lw": 0.7, "label": "visit"}),
                (exact, {"color": "k", "lw": 1.4, "label": "truth"}),
                (made, {"color": "C1", "lw": 1.0, "label": "without noise"}),
            ):
                use = inside & one.good
                shown = np.where(use, one.flux, np.nan)[inside] / level
                axis.plot(one.wavelength[inside], shown, **style)
            title = f"{kind}: {teff[i]:.0f} K, log g {logg[i]:.1f}, [Fe/H] {fe_h[i]:+.1f}"
            axis.set_title(f"{title}, S/N {test.snr[i]:.0f}", loc="left", fontsize=9)
            axis.set(ylim=(0.45, 1.35), ylabel="flux")
        axes[0].legend(ncols=3, loc="lower right")
        axes[-1].set(xlabel="wavelength at rest [Å]", xlim=stretch)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
        plt.close(figure)
