"""Fits of real stars against what is known of them.

    python benchmarks/real_stars.py DATA --emulators weights/emulator-optical weights/emulator-h \
        --encoder weights/lamost-dr10

DATA holds ``benchmark_stars``, ``galah``, ``gaia_rvs``, ``apogee``, ``lamost_dr10`` and ``miles``.
Fits that are finished are kept in ``--work``. Writes ``real_stars.md``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import figures
from fits import (
    Arrays,
    emulators_of,
    error_option,
    fit_stars,
    flag_names,
    identity,
    with_error,
)
from pages import remarks, table, write_page
from reference_stars import (
    BENCHMARKS,
    WINDOWS,
    Known,
    apogee_example,
    degraded,
    galah_star,
    rvs_star,
)
from samples import Sample, lamost, miles
from spectrolabe.catalogue.schema import BAD
from spectrolabe.homogenise.anchors import Anchors
from spectrolabe.homogenise.fitting import fit_calibration
from spectrolabe.labels import LABELS, Labels
from spectrolabe.models.checkpoint import load
from spectrolabe.models.emulator import Emulator
from spectrolabe.spectra import Spectrum
from spectrolabe.validation.metrics import evaluate, evaluate_bins, mad, to_markdown

NAMES = ("teff", "logg", "fe_h")
LIMITS = {"teff": 300.0, "logg": 0.4, "fe_h": 0.4}  # beyond which a residual is an outlier
LASP_SIGMA = (50.0, 0.05, 0.04)  # K, dex, dex: scatter of LASP between spectra of one star
SNR_CUT, STARS, MILES_STARS, SEED = 50.0, 500, 300, 21
RESOLUTIONS = (1800.0, 11500.0, 28000.0)
REALISATIONS = 3  # of the noise
SHOWN = ("c_fe", "o_fe", "na_fe", "mg_fe", "si_fe", "ca_fe", "ti_fe", "cr_fe", "mn_fe", "ni_fe")
SHOWN += ("y_fe", "ba_fe")
DIGITS = {"teff": 0}
OPTIONS: dict[str, Any] = {}  # of every fit, from the command line


def number(name: str, value: float, sign: bool = False) -> str:
    """A value of a label as text."""
    if not np.isfinite(value):
        return "–"
    return f"{value:{'+' if sign else ''}.{DIGITS.get(name, 2)}f}"


def column(found: Arrays, name: str, key: str = "values") -> NDArray:
    """One label of fits; NaN if it is not among them."""
    names = found["names"].tolist()
    if name not in names:
        return np.full(len(found["values"]), np.nan)
    return np.asarray(found[key][:, names.index(name)])


def reduced(found: Arrays) -> NDArray:
    """chi2 per degree of freedom."""
    return np.asarray(found["chi2"] / np.maximum(found["n_pixels"] - found["n_parameters"], 1))


def benchmark_rows(
    known: Known, title: Sequence[str], found: Arrays, elements: Sequence[str]
) -> list[str]:
    """Cells of one setting: differences to what is known, then abundances."""
    cells = list(title)
    for name in NAMES:
        values = column(found, name) - known.labels[name][0]
        text = number(name, float(np.mean(values)), sign=True)
        if len(values) > 1:
            text += f" ± {number(name, float(np.std(values)))}"
        else:
            text += f" ({number(name, float(column(found, name, 'sigma')[0]))})"
        cells.append(text)
    cells.append(number("v_micro", float(np.mean(column(found, "v_micro")))))
    cells += [number(e, float(np.mean(column(found, e))), sign=True) for e in elements]
    flags = int(np.bitwise_or.reduce(found["result_flags"].astype(int)))
    return [*cells, f"{np.mean(reduced(found)):.2f}", flag_names(flags)]


def benchmarks(folder: Path, emulators: Sequence[Emulator], work: Path) -> str:
    """The Sun and Procyon at three resolutions in the windows of surveys; mu Leo, Kepler-93."""
    head = ["window", "R", "S/N", "ΔTeff [K]", "Δlog g", "Δ[Fe/H]", "v_micro"]
    head += [*(LABELS[e].latex for e in SHOWN), "reduced chi2", "flags"]
    texts = []
    for star in ("Sun", "Procyon"):
        known, rows = BENCHMARKS[star], []
        for window in WINDOWS:
            for resolution in RESOLUTIONS:
                for snr, count in ((np.inf, 1), (100.0, REALISATIONS)):
                    seen = [
                        degraded(folder, star, window, resolution, snr, k) for k in range(count)
                    ]
                    if not seen[0]:
                        continue
                    name = f"{star}-{window}-{resolution:g}-{snr:g}"
                    found = fit_stars(work, name, seen, emulators, **OPTIONS)
                    title = [window, f"{resolution:,.0f}", f"{snr:g}".replace("inf", "–")]
                    rows.append(benchmark_rows(known, title, found, SHOWN))
        values = ", ".join(f"{n} {v[0]:g} ± {v[1]:g}" for n, v in known.labels.items())
        texts.append(f"### {star}\n\n{values} ({known.source}).\n\n{table(head, rows)}")
    for star, spectra, window in (
        ("mu Leo", galah_star(folder), "GALAH, early reduction"),
        ("Kepler-93", rvs_star(folder), "Gaia RVS"),
    ):
        known = BENCHMARKS[star]
        spectra = [_smoothed_to(s, emulators) for s in spectra]
        found = fit_stars(work, star.replace(" ", ""), [spectra], emulators, **OPTIONS)
        title = [window, f"{np.median(spectra[0].resolution):,.0f}", f"{spectra[0].snr:.0f}"]
        rows = [benchmark_rows(known, title, found, SHOWN)]
        values = ", ".join(f"{n} {v[0]:g} ± {v[1]:g}" for n, v in known.labels.items())
        texts.append(f"### {star}\n\n{values} ({known.source}).\n\n{table(head, rows)}")
        texts.append("\n\n".join(m for m in found["messages"].tolist() if m))
    return f"""## Benchmark stars

The HARPS spectra of the Sun and Procyon (air wavelengths, R = 110,000) degraded to lower
resolutions, 3 pixels per FWHM. HARPS reaches 3783–6913 Å for the Sun and 4800–6800 Å for Procyon:
of LAMOST's window that part, of GALAH's arms the first three, and **nothing of the RVS**, so that
Kepler-93 stands in for it. The velocity is not given to the fit. Without noise the stated errors
are those of S/N 500 and of the model (0.5 per cent), and in brackets the fit's uncertainty; at
S/N 100 mean and standard deviation of {REALISATIONS} realisations.

{chr(10).join(t + chr(10) for t in texts if t)}
{remarks("benchmarks")}"""


def _smoothed_to(spectrum: Spectrum, emulators: Sequence[Emulator]) -> Spectrum:
    """The early GALAH files give no R of their own above that of the emulator."""
    highest = max(e.resolution for e in emulators)
    return spectrum.replace(resolution=np.minimum(spectrum.resolution, highest))


def chosen_lamost(folder: Path, count: int) -> tuple[Sample, NDArray]:
    """Return FGK stars of good S/N, all validation stars among them, and which are those."""
    whole = lamost(folder / "lamost_dr10")
    validation = np.isin(whole.obsid, lamost(folder / "lamost_dr10", split="val").obsid)
    teff = whole.labels["teff"]
    use = (whole.snr > SNR_CUT) & (teff > 4300.0) & (teff < 7400.0)
    rng = np.random.default_rng(SEED)
    rest = rng.permutation(np.flatnonzero(use & ~validation))
    rows = np.concatenate([np.flatnonzero(use & validation), rest])[:count]
    return whole.take(np.sort(rows)), validation[np.sort(rows)]


def labels_of(found: Arrays, star_id: NDArray) -> Labels:
    """Teff, log g and [Fe/H] of fits, unknown where the whole result is bad."""
    values = np.stack([column(found, name) for name in NAMES], axis=1)
    sigma = np.stack([column(found, name, "sigma") for name in NAMES], axis=1)
    return Labels(NAMES, values, np.where(np.isfinite(values), sigma, np.nan), star_id)


def calibrated(estimate: Labels, reference: Labels, group: NDArray) -> Labels:
    """Return labels on the reference's scale, each half of the stars calibrated by the other.

    Parameters
    ----------
    estimate, reference : Labels
        N rows; ``star_id`` differ from row to row.
    group : ndarray of str, shape (N,)
        Stars: all spectra of one are in the same half.
    """
    rng = np.random.default_rng(SEED)
    names = np.unique(group)
    first = np.isin(group, rng.permutation(names)[: len(names) // 2])
    values, sigma = np.array(estimate.values), np.array(estimate.sigma)
    known = np.isfinite(estimate.values).all(axis=1)
    for half in (first, ~first):
        rows = np.flatnonzero(half & known)
        anchors = Anchors(
            np.full(len(rows), ""),
            np.full(len(rows), "reference"),
            Labels(
                NAMES,
                reference.values[rows],
                np.broadcast_to(LASP_SIGMA, (len(rows), 3)),
                reference.star_id[rows],
            ),
        )
        calibration = fit_calibration(estimate.take(rows), anchors, NAMES)
        corrected = calibration.apply(estimate.take(~half)).labels
        values[~half], sigma[~half] = corrected.values, corrected.sigma
    return Labels(NAMES, values, sigma, estimate.star_id)


def trend(residual: NDArray, against: NDArray) -> tuple[float, float]:
    """Slope of a robust straight line and its bootstrap error."""
    use = np.isfinite(residual) & np.isfinite(against)
    residual, x = residual[use], against[use] - np.median(against[use])
    rng = np.random.default_rng(SEED)

    def slope(rows: NDArray) -> float:
        y, weight = residual[rows], np.ones(len(rows))
        design = np.stack([np.ones(len(rows)), x[rows]], axis=1)
        for _ in range(8):
            found = np.linalg.lstsq(design * weight[:, None], y * weight, rcond=None)[0]
            left = y - design @ found
            weight = np.sqrt(1.0 / np.maximum(np.abs(left) / (1.5 * mad(left)), 1.0))
        return float(found[1])

    draws = [slope(rng.integers(len(x), size=len(x))) for _ in range(200)]
    return slope(np.arange(len(x))), float(np.std(draws))


def trend_table(truth: Labels, versions: Mapping[str, Labels]) -> str:
    """Slopes of the residuals with Teff and log g of the reference."""
    rows = []
    for name in NAMES:
        unit = LABELS[name].unit
        for title, labels in versions.items():
            residual = labels[name] - truth[name]
            cells = [f"{name} [{unit}]", title]
            for against, scale in (("teff", 1000.0), ("logg", 1.0), ("fe_h", 1.0)):
                value, error = trend(residual, truth[against] / scale)
                d = 0 if name == "teff" else 3
                cells.append(f"{value:+.{d}f} ± {error:.{d}f}")
            rows.append(cells)
    head = ["residual", "labels", "per 1000 K", "per dex of log g", "per dex of [Fe/H]"]
    return table(head, rows)


def compared(truth: Labels, versions: Mapping[str, Labels], rows: NDArray) -> str:
    """Bias, scatter and outliers of several sets of labels."""
    lines: list[list[str]] = []
    head: list[str] = []
    for title, labels in versions.items():
        found = evaluate(
            truth.take(rows),
            labels.take(rows),
            outlier_limits=LIMITS,
            truth_sigma=True,
            bootstrap=200,
            rng=np.random.default_rng(SEED),
        )
        cells = [
            [c.strip() for c in line.strip("|").split("|")]
            for line in to_markdown(found).splitlines()
        ]
        head = [cells[0][0], "labels", *cells[0][1:]]
        lines += [[one[0], title, *one[1:]] for one in cells[2:]]
    return table(head, sorted(lines, key=lambda one: [n in one[0] for n in NAMES], reverse=True))


def quality(found: Arrays) -> str:
    """chi2, flags and cost of a set of fits, as a sentence."""
    flags = found["result_flags"].astype(int)
    chi2 = np.nanquantile(reduced(found), (0.16, 0.5, 0.84))
    counts = [
        f"{flag_names(bit)} {100 * np.mean((flags & bit) > 0):.0f} %"
        for bit in (1 << k for k in range(14))
        if (flags & bit).any()
    ]
    return (
        f"Reduced chi2 {chi2[1]:.2f} (16 to 84 per cent of the stars: {chi2[0]:.2f} to "
        f"{chi2[2]:.2f}), {np.median(found['n_clipped']):.0f} pixels clipped in the median star, "
        f"{np.mean(found['evaluations']):.0f} evaluations and "
        f"{np.mean(found['seconds']):.2f} CPU s a star. Flags: {', '.join(counts) or 'none'}."
    )


def lamost_section(
    folder: Path,
    emulators: Sequence[Emulator],
    encoder: Path | None,
    work: Path,
    output: Path,
    count: int,
) -> str:
    """500 stars against LASP and the encoder, before and after calibration."""
    sample, validation = chosen_lamost(folder, count)
    found = fit_stars(work, "lamost-dr10", sample.spectra, emulators, **OPTIONS)
    group, rows_id = sample.labels.star_id, np.array([f"{o}" for o in sample.obsid])
    truth = Labels(
        NAMES,
        sample.labels.values,
        np.broadcast_to(LASP_SIGMA, sample.labels.values.shape),
        rows_id,
    )
    raw = labels_of(found, rows_id)
    good = (found["result_flags"].astype(int) & int(BAD)) == 0
    after = calibrated(raw, truth, group)
    versions = {"fit": raw, "fit, calibrated": after}
    if encoder is not None:
        model = load(encoder)
        posterior = model.estimate(sample.spectra).calibrated.select(NAMES).to_labels()
        versions["encoder"] = Labels(NAMES, posterior.values, posterior.sigma, rows_id)
    everything = np.ones(len(sample), bool)
    texts = [
        "All stars:",
        compared(truth, versions, everything),
        f"The {good.sum()} stars without a flag that marks the result as bad:",
        compared(truth, versions, good),
    ]
    if encoder is not None:
        texts += [
            f"The {validation.sum()} validation stars, which the encoder has not seen:",
            compared(truth, versions, validation),
        ]
        versions_only = {"fit": raw, "fit, calibrated": after}
        texts += [
            "Against the encoder instead of LASP, all stars:",
            compared(versions["encoder"], versions_only, everything),
        ]
    texts += ["Slopes of the residuals against LASP (robust line, all stars):"]
    texts += [trend_table(truth, versions)]
    edges = (4000.0, 5000.0, 5500.0, 6000.0, 6500.0, 7500.0)
    texts += ["The fit without calibration, by Teff of LASP:", binned(truth, raw, "teff", edges)]
    edges = (0.0, 3.0, 3.7, 4.1, 4.4, 5.0)
    texts += ["and by log g:", binned(truth, raw, "logg", edges)]
    for name, labels in (("fit", raw), ("calibrated", after)):
        figures.residuals(
            output / "figures" / f"fit_lamost_{name}.png",
            truth,
            labels,
            {
                r"LASP $T_\mathrm{eff}$ [K]": truth["teff"],
                r"LASP $\log g$ [dex]": truth["logg"],
                "LASP [Fe/H] [dex]": truth["fe_h"],
            },
            truth_name="LASP",
        )
        texts.append(f"![Residuals of the {name}](figures/fit_lamost_{name}.png)")
    stated = np.array([s[0].rv for s in sample.spectra])
    off = found["rv"] - stated
    return f"""## LAMOST DR10

{len(sample)} spectra of {np.unique(group).size} stars with S/N_g > {SNR_CUT:g} and LASP Teff
4300–7400 K, all {validation.sum()} of the validation stars among them. Nothing of LAMOST was used
to train the emulator. *Calibrated*: trends in Teff, log g and [Fe/H] found with `homogenise`,
LASP labels of half of the stars as reference stars, and removed from the other half, and the
reverse: no star is calibrated by itself. That ties the labels to LASP's scale, errors of LASP
included; it shows how much of the difference is a smooth trend. LASP's own errors are taken as
{LASP_SIGMA[0]:g} K, {LASP_SIGMA[1]:g}, {LASP_SIGMA[2]:g} dex (its scatter between spectra of one
star).

{quality(found)} Velocity less that of the file: {np.nanmedian(off):+.1f} km/s, scatter
{mad(off[np.isfinite(off)]):.1f} km/s.

{(chr(10) * 2).join(texts)}

{remarks("lamost")}"""


def binned(truth: Labels, labels: Labels, name: str, edges: Sequence[float]) -> str:
    """Metrics in bins of a label of the reference."""
    found = evaluate_bins(
        truth, labels, truth[name], edges, name=name, outlier_limits=LIMITS, truth_sigma=True
    )
    return to_markdown(sorted((r for r in found if r.stars), key=lambda r: NAMES.index(r.label)))


def miles_section(
    folder: Path, emulators: Sequence[Emulator], work: Path, output: Path, count: int
) -> str:
    """300 stars of the library."""
    whole = miles(folder / "miles")
    rows = np.sort(np.random.default_rng(SEED).permutation(len(whole))[:count])
    sample = whole.take(rows)
    found = fit_stars(work, "miles", sample.spectra, emulators, **OPTIONS)
    truth = sample.labels
    raw = labels_of(found, truth.star_id)
    low, high = (
        np.array([getattr(emulators[0], key)[emulators[0].names.index(n)] for n in NAMES])
        for key in ("low", "high")
    )
    inside = ((truth.values >= low) & (truth.values <= high)).all(axis=1)
    good = (found["result_flags"].astype(int) & int(BAD)) == 0
    figures.one_to_one(
        output / "figures" / "fit_miles.png",
        truth,
        raw,
        inside & good,
        truth_name="MILES",
        names=("in range, not flagged", "others"),
    )
    texts = []
    for title, use in (
        ("In the emulator's range of labels", inside),
        ("The same, not flagged as bad", inside & good),
        ("Outside of it", ~inside),
    ):
        if use.any():
            texts += [f"{title} ({use.sum()} stars, {100 * good[use].mean():.0f} % not flagged):"]
            texts += [compared(truth, {"fit": raw}, use)]
    texts += ["In range, slopes of the residuals:"]
    texts += [trend_table(truth.take(inside), {"fit": raw.take(inside)})]
    edges = (3500.0, 4500.0, 5000.0, 5500.0, 6000.0, 6500.0, 8000.0)
    ranged = truth.take(inside), raw.take(inside)
    texts += ["In range, by Teff:", binned(*ranged, "teff", edges)]
    texts += ["and by [Fe/H]:", binned(*ranged, "fe_h", (-3.0, -1.5, -1.0, -0.5, 0.0, 0.7))]
    return f"""## MILES

{len(sample)} of the library's stars (Sánchez-Blázquez et al. 2006), 3540–7410 Å, FWHM 2.5 Å at
all wavelengths, air, without errors (S/N 100 is assumed), against the compilation of the
literature that comes with it (Cenarro et al. 2007; its scatter of about 100 K, 0.2, 0.1 dex is
counted in the pulls).

{quality(found)}

{(chr(10) * 2).join(texts)}

![Against MILES](figures/fit_miles.png)

{remarks("miles")}"""


def apogee_section(folder: Path, emulators: Sequence[Emulator], work: Path) -> str:
    """The example spectrum against ASPCAP."""
    spectra, known = apogee_example(folder)
    found = fit_stars(work, "apogee-dr14", [spectra], emulators, **OPTIONS)
    rows = []
    for name in found["names"].tolist():
        value, sigma = (float(column(found, name, key)[0]) for key in ("values", "sigma"))
        if not np.isfinite(value):
            continue
        there = known.labels.get(name, (np.nan, np.nan))[0]
        rows.append(
            [
                f"{name} [{LABELS[name].unit}]",
                f"{number(name, value)} ± {number(name, sigma)}",
                number(name, there),
                number(name, value - there, sign=True),
            ]
        )
    return f"""## APOGEE

{known.name}, a combined spectrum of DR14 (S/N {spectra[0].snr:.0f}), against {known.source},
and its [α/M] for O, Mg, Si and Ca.
Reduced chi2 {reduced(found)[0]:.2f}, {found["n_clipped"][0]} of
{found["n_pixels"][0] + found["n_clipped"][0]:,} pixels clipped, broadening
{found["v_broad"][0]:.1f} ± {found["e_v_broad"][0]:.1f} km/s. Flags:
{flag_names(found["result_flags"][0])}. {found["messages"][0]}

{table(["label", "fit", "ASPCAP", "difference"], rows)}

{remarks("apogee")}"""


INTRODUCTION = """# Fits of real stars

```
python benchmarks/real_stars.py DATA --emulators {emulators}{encoder}
```

Emulators {which}. All 34 labels are fitted with weak priors, from the fit's own first guess;
what is left out of spectra was chosen on 48 of the LAMOST stars, the Sun and Procyon, and looked at
for 22 of the MILES stars; the errors of the line list were measured on the Sun itself, whose rows
are therefore no test. Nothing else is tuned to these stars. *bias* is the median of fit −
reference, *1.4826 MAD* the robust standard deviation about it, *outliers* the fraction beyond
{limits}. *Pull* is the residual over its uncertainty, the reference's included.

{remarks}"""


def main() -> None:
    """Fit, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--emulators", type=Path, nargs="+", required=True)
    parser.add_argument("--encoder", type=Path)
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    parser.add_argument("--work", type=Path, default=Path("build/real_stars"))
    parser.add_argument("--only", nargs="+", choices=["benchmarks", "lamost", "miles", "apogee"])
    parser.add_argument(
        "--count", type=int, nargs=2, default=(STARS, MILES_STARS), help="stars of LAMOST, of MILES"
    )
    error_option(parser)
    arguments = parser.parse_args()
    emulators = emulators_of(arguments.emulators)
    folder, work, output = arguments.folder, arguments.work, arguments.output
    if arguments.model_error is not None:
        OPTIONS.update(with_error(arguments))
    stars = arguments.count
    parts: dict[str, Callable[[], str]] = {
        "benchmarks": lambda: benchmarks(folder, emulators, work),
        "lamost": lambda: lamost_section(
            folder, emulators, arguments.encoder, work, output, stars[0]
        ),
        "miles": lambda: miles_section(folder, emulators, work, output, stars[1]),
        "apogee": lambda: apogee_section(folder, emulators, work),
    }
    introduction = INTRODUCTION.format(
        emulators=" ".join(str(e) for e in arguments.emulators),
        encoder=(f" --encoder {arguments.encoder}" if arguments.encoder else "")
        + f" --count {stars[0]} {stars[1]}"
        + (f" --only {' '.join(arguments.only)}" if arguments.only else ""),
        which=", ".join(f"`{one}`" for one in identity(emulators)),
        limits=", ".join(f"{value:g} {LABELS[k].unit} in {k}" for k, value in LIMITS.items()),
        remarks=remarks("summary"),
    )
    wanted = arguments.only or list(parts)
    sections = [introduction, *(parts[name]() for name in wanted)]
    write_page(output / "real_stars.md", sections)


if __name__ == "__main__":
    main()
