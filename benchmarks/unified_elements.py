"""Which abundances are seen in spectra, and which are inferred from what goes with them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from figures import STYLE
from pages import remarks, table
from spectrolabe.training.stars import Stars
from unified_limits import priors, told
from unified_sky import Sky, abundances

__all__ = ["figure", "section", "slopes"]

SNR = 100.0
KNOWN = 0.5  # slope below which an abundance is not known from its own lines
Arrays = dict[str, NDArray]


def slopes(sky: Sky, survey: str, independent: Stars, galaxy: Stars, fisher: NDArray) -> Arrays:
    """Return slopes of estimated with true [X/Fe], shape (X,), and their errors.

    Returns
    -------
    dict of ndarray
        ``independent``, ``galaxy`` and ``error`` (of the first); ``possible``, what the best
        estimate has for independent stars.
    """
    names = abundances(sky.names)
    found: Arrays = {}
    for kind, stars in (("independent", independent), ("galaxy", galaxy)):
        seen = sky.estimated(survey, stars, SNR, [1 if kind == "independent" else 2])
        metals = seen.of("fe_h")[0] if kind == "independent" else None
        lines = [_line(*seen.of(name)[:2], metals) for name in names]
        found[kind] = np.array([slope for slope, _ in lines])
        found[f"error/{kind}"] = np.array([error for _, error in lines])
    fisher = fisher * SNR**2  # of the independent stars
    prior = priors(sky, survey)["mixed"]
    # d(estimate)/d(truth) of the posterior mean
    gain = np.linalg.solve(np.eye(len(prior)) + prior @ fisher, prior @ fisher)
    columns = [told(sky).index(name) for name in names]
    found["possible"] = np.mean(np.diagonal(gain, axis1=1, axis2=2), axis=0)[columns]
    return found


def _line(truth: NDArray, estimate: NDArray, metals: NDArray | None) -> tuple[float, float]:
    """Slope of estimates with the truth, at given [Fe/H] if it is given, and its error."""
    known = [np.ones(len(truth))] + ([] if metals is None else [metals**k for k in (1, 2, 3)])
    design = np.stack(known, axis=1)
    left = lambda y: y - design @ np.linalg.lstsq(design, y, rcond=None)[0]  # noqa: E731
    x, y = left(truth), left(estimate)
    slope = float(x @ y / (x @ x))
    return slope, float(np.sqrt(np.mean((y - slope * x) ** 2) / (x @ x)))


def _lists(sky: Sky, all_: dict[str, Arrays]) -> str:
    """Which labels are known by correlation, or not at all, per survey."""
    names = np.array(abundances(sky.names))
    rows = []
    for survey, found in all_.items():
        own, galaxy, possible = found["independent"], found["galaxy"], found["possible"]
        seen = own >= KNOWN
        guessed = ~seen & (galaxy >= KNOWN)
        text = lambda rows: ", ".join(n.removesuffix("_fe").title() for n in names[rows]) or "–"  # noqa: E731
        rows.append(
            [
                survey,
                f"{seen.sum()}: {text(seen)}",
                f"{guessed.sum()}: {text(guessed)}",
                f"{(~seen & ~guessed).sum()}: {text(~seen & ~guessed)}",
                text(~seen & (possible >= KNOWN)),
            ]
        )
    head = ["survey", "seen", "through correlations alone", "not known"]
    head += ["not seen, though spectra would tell"]
    return table(head, rows)


def section(sky: Sky, all_: dict[str, Arrays], counts: tuple[int, int]) -> str:
    """The section of the page."""
    names = abundances(sky.names)
    rows = []
    for i, name in enumerate(names):
        cells = [
            f"{f['independent'][i]:.2f} / {f['possible'][i]:.2f} / {f['galaxy'][i]:.2f}"
            for f in all_.values()
        ]
        rows.append([name, *cells])
    middle = [f"{np.median(f['error/independent']):.2f}" for f in all_.values()]
    rows.append(["median error of the first", *middle])
    return f"""## Seen, or guessed from what goes with it

Slope of the estimated with the true [X/Fe] at S/N {SNR:g}. First: {counts[0]} stars whose
abundances are drawn independently of each other (but for lithium and the elements of helium nuclei,
whose mean goes with [Fe/H]: what [Fe/H] explains is taken out of both), so that nothing but lines
of an element, or the atmosphere that it changes, can tell it; 1 would be an element that noise does
not blur, 0 one that is not seen. Second: what the best estimate, the posterior mean of the
straight-line model above, has for the same stars. Third: {counts[1]} stars of the Galaxy, where
elements go together: there a slope may come from others. An abundance with a slope of {KNOWN:g} or
more in the Galaxy and below it in independent stars is inferred through correlations: the catalogue
value then says what stars like this one have, not what this one has.

{table(["label", *all_], rows)}

{_lists(sky, all_)}

![Slopes](figures/unified_elements.png)

{remarks("elements")}"""


def figure(sky: Sky, all_: dict[str, Arrays], path: str) -> None:
    """Draw the slopes of all elements and surveys."""
    import matplotlib.pyplot as plt

    names = [n.removesuffix("_fe").title() for n in abundances(sky.names)]
    titles = {"independent": "independent", "possible": "possible", "galaxy": "the Galaxy"}
    with plt.rc_context(STYLE):
        drawn, panels = plt.subplots(3, 1, figsize=(8.5, 6.0), sharex=True)
        for axes, (key, title) in zip(panels, titles.items(), strict=True):
            image = axes.imshow(
                [found[key] for found in all_.values()], vmin=0, vmax=1, cmap="viridis"
            )
            axes.set_yticks(range(len(all_)), list(all_))
            axes.set_title(f"slope of estimate with truth: {title}", fontsize=9)
            axes.set_aspect("auto")
        panels[-1].set_xticks(range(len(names)), names)
        drawn.colorbar(image, ax=panels, shrink=0.5)
        drawn.savefig(path, dpi=90)
        plt.close(drawn)
