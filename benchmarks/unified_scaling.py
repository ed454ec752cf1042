"""How errors fall with the number of stars, of passes over them, and of parameters.

python benchmarks/kept_sky.py WORK && python benchmarks/learners.py WORK
python benchmarks/unified_scaling.py WORK docs/results
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from figures import STYLE
from kept_sky import BASE, BATCHES, SNR, STARS, TEST, kept, read
from learners import BASELINE, LEARNERS, Tried, finished, folder_of, try_out
from pages import remarks, table, write_page
from spectrolabe.models.checkpoint import load
from spectrolabe.validation.metrics import mad
from unified_accuracy import digits
from unified_sky import MAIN, SURVEYS, abundances

GROUPS = {
    "stars": ("stars-1/16", "stars-1/4", BASELINE),
    "passes": ("passes-1", BASELINE, "passes-4"),
    "width": ("width-32", BASELINE, "width-128"),
}
FIT = "first fit alone"


def scatters(one: Tried) -> dict[str, float]:
    """Scatter of the main labels, and the median of that of abundances."""
    names = list(one.posterior.names)
    error = one.posterior.mean - one.truth
    found = {name: mad(error[:, names.index(name)]) for name in MAIN}
    own = [mad(error[:, names.index(name)]) for name in abundances(names)]
    return {**found, "[X/Fe]": float(np.median(own))}


def first_fits(work: Path) -> dict[str, dict[str, float]]:
    """Scatters of what every model starts from."""
    model = load(folder_of(work, BASELINE))
    names, guesser = list(model.names), model.encoder.guesser
    assert guesser is not None
    found: dict[str, dict[str, float]] = {}
    for survey in SURVEYS:
        batches = [read(path) for path in kept(work, "test", (survey,))]
        told = [guesser(batch.fit).prior.mean.numpy() for batch in batches]
        truth = np.concatenate([batch.target.numpy() for batch in batches])
        error = model.scale.width * (np.concatenate(told) - truth)
        all_ = {name: mad(error[:, names.index(name)]) for name in (*MAIN, *abundances(names))}
        own = float(np.median([all_[name] for name in abundances(names)]))
        found[survey] = {**{name: all_[name] for name in MAIN}, "[X/Fe]": own}
    return found


def relative(found: dict[str, dict[str, float]], other: dict[str, dict[str, float]]) -> float:
    """Ratio of scatters, the geometric mean over surveys and labels."""
    ratios = [found[s][label] / other[s][label] for s in found for label in found[s]]
    return float(np.exp(np.mean(np.log(ratios))))


def figure(ratios: dict[str, float], numbers: dict[str, list[float]], path: Path) -> None:
    """Relative scatter against stars, passes and parameters."""
    with plt.rc_context(STYLE):
        drawing, axes = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained", sharey=True)
        what = ("simulated stars", "passes over the same stars", "trained parameters")
        for axis, group, label in zip(axes, GROUPS, what, strict=True):
            names = [name for name in GROUPS[group] if name in ratios]
            axis.plot(numbers[group][: len(names)], [ratios[name] for name in names], "o-", ms=4)
            axis.axhline(ratios[FIT], color="0.6", lw=1, ls="--")
            axis.set(xscale="log", xlabel=label)
        axes[0].set_ylabel("scatter over that of `base`")
        axes[0].annotate("first fit alone", (0.03, ratios[FIT]), xycoords=("axes fraction", "data"))
        drawing.savefig(path, dpi=110)
        plt.close(drawing)


def page(work: Path, output: Path) -> list[str]:
    """Sections of the page."""
    wanted = list(dict.fromkeys(name for group in GROUPS.values() for name in group))
    done = [name for name in wanted if finished(work, name)]
    found = {FIT: first_fits(work)}
    found |= {name: {s: scatters(t) for s, t in try_out(work, name).items()} for name in done}
    ratios = {name: relative(one, found[BASELINE]) for name, one in found.items()}
    cards = {name: load(folder_of(work, name)).card for name in done}
    numbers: dict[str, list[float]] = {
        "stars": [LEARNERS[n].share * BATCHES * STARS for n in GROUPS["stars"]],
        "passes": [float(LEARNERS[n].passes) for n in GROUPS["passes"]],
        "width": [float(cards[n]["parameters"]) for n in GROUPS["width"] if n in cards],
    }
    (output / "figures").mkdir(parents=True, exist_ok=True)
    figure(ratios, numbers, output / "figures" / "unified_scaling.png")
    rows = []
    for name, by_survey in found.items():
        card = cards.get(name)
        cells = ["–"] * 3
        if card is not None:
            stars = card["training_data"]["stars"]
            cells = [f"{card['parameters'] / 1e6:.2f}", f"{stars:,}", f"{card['steps']:,}"]
        for survey in SURVEYS:
            one = by_survey[survey]
            cells.append(
                " / ".join(f"{one[k]:.{digits(k)}f}" for k in MAIN) + f" / {one['[X/Fe]']:.3f}"
            )
        rows.append([name, *cells, f"{ratios[name]:.3f}"])
    head = ["model", "million parameters", "stars", "steps", *SURVEYS, "relative scatter"]
    return [
        f"""# What more stars, more steps and more parameters buy

```
python benchmarks/kept_sky.py WORK && python benchmarks/learners.py WORK
python benchmarks/unified_scaling.py WORK docs/results
```

Models that learn from {BATCHES * STARS:,} stars of one kept sky, or a part of them, in steps of
{STARS} stars; `base` has width {BASE.encoder.width} and goes over them {BASE.training.epochs}
times. Parts of the sky are learnt from as many times more often: the number of steps is the same.
Tried on {TEST} other stars at S/N {SNR:g}. Each cell: 1.4826 MAD of Teff [K] / log g / [Fe/H] /
median over [X/Fe]. *Relative scatter*: to `base`, the geometric mean over surveys and these four.

{table(head, rows)}

![Scatter against stars, passes and parameters](figures/unified_scaling.png)

{remarks("summary")}"""
    ]


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("work", type=Path)
    parser.add_argument("output", type=Path)
    given = parser.parse_args()
    write_page(given.output / "unified_scaling.md", page(given.work, given.output))


if __name__ == "__main__":
    main()
