"""How errors fall with the number of stars, of passes over them, and of parameters.

python benchmarks/kept_sky.py WORK && python benchmarks/learners.py WORK
python benchmarks/unified_scaling.py WORK docs/results
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.typing import NDArray

from figures import STYLE
from kept_sky import BASE, BATCHES, SNR, STARS, TEST, kept, read
from learners import BASELINE, LEARNERS, folder_of
from pages import remarks, table, write_page
from spectrolabe.models.checkpoint import load
from spectrolabe.models.estimator import Estimator
from spectrolabe.training.pretrain import encode_views
from spectrolabe.training.sky import SkyBatch
from spectrolabe.validation.metrics import mad
from unified_accuracy import digits
from unified_sky import MAIN, SURVEYS, abundances

GROUPS = {
    "stars": ("stars-1/16", "stars-1/4", BASELINE),
    "passes": ("passes-1", BASELINE, "passes-4"),
    "width": ("width-32", BASELINE, "width-128"),
}
FIT = "first fit alone"


Mean = Callable[[Estimator, SkyBatch], NDArray]
Scatters = dict[str, dict[str, float]]  # by survey and label


def scatters(names: Sequence[str], error: NDArray) -> dict[str, float]:
    """Scatter of the main labels, and the median of that of abundances, of errors (N, L)."""
    found = {name: mad(error[:, names.index(name)]) for name in MAIN}
    own = [mad(error[:, names.index(name)]) for name in abundances(names)]
    return {**found, "[X/Fe]": float(np.median(own))}


def tried(work: Path, kind: str, model: Estimator, mean: Mean) -> Scatters:
    """Scatters of what a model says of views of a part of the kept sky, by survey."""
    found = {}
    for survey in SURVEYS:
        errors = []
        for path in kept(work, kind, (survey,)):
            batch = read(path)
            rows = np.array(batch.instrument) == survey
            errors.append(mean(model, batch)[rows] - batch.target.numpy()[rows])
        found[survey] = scatters(model.names, np.concatenate(errors) * model.scale.width)
    return found


def of_model(model: Estimator, batch: SkyBatch) -> NDArray:
    """Scaled labels, (V, L)."""
    return encode_views(model.encoder, batch)[0]


@torch.inference_mode()
def of_first_fit(model: Estimator, batch: SkyBatch) -> NDArray:
    """The same of what every model starts from."""
    assert model.encoder.guesser is not None
    assert batch.fit is not None
    return np.asarray(model.encoder.guesser(batch.fit).prior.mean.numpy())


def relative(found: Scatters, other: Scatters) -> float:
    """Ratio of scatters, the geometric mean over surveys and labels."""
    ratios = [found[s][label] / other[s][label] for s in found for label in found[s]]
    return float(np.exp(np.mean(np.log(ratios))))


def figure(both: tuple[dict[str, float], ...], numbers: dict[str, list[float]], path: Path) -> None:
    """Relative scatter against stars, passes and parameters."""
    with plt.rc_context(STYLE):
        drawing, axes = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained", sharey=True)
        what = ("simulated stars", "passes over the same stars", "thousand trained parameters")
        kinds = (("clean spectra, S/N 50", "#1f6fa8"), ("spectra as taught", "#c8402f"))
        for axis, group, label in zip(axes, GROUPS, what, strict=True):
            for ratios, (kind, colour) in zip(both, kinds, strict=True):
                y = [ratios[name] for name in GROUPS[group]]
                axis.plot(numbers[group], y, "o-", ms=4, color=colour, label=kind)
                axis.axhline(ratios[FIT], color=colour, lw=1, ls="--")
            axis.set(xscale="log", xlabel=label)
            axis.set_xticks(numbers[group], [f"{x:,.0f}" for x in numbers[group]])
            axis.set_xticks([], minor=True)
        axes[0].set_ylabel("scatter over that of `base`")
        axes[2].plot([], [], color="0.4", lw=1, ls="--", label=FIT)
        axes[2].legend(fontsize=7)
        drawing.savefig(path, dpi=110)
        plt.close(drawing)


def page(work: Path, also: Sequence[Path], output: Path) -> list[str]:
    """Sections of the page."""
    wanted = list(dict.fromkeys(name for group in GROUPS.values() for name in group))
    models = {name: load(folder_of(work, name)) for name in wanted}
    models |= {path.name: load(path) for path in also}
    cards = {name: model.card for name, model in models.items()}
    parameters = {
        name: sum(
            p.numel() for n, p in model.encoder.named_parameters() if not n.startswith("guesser")
        )
        for name, model in models.items()
    }
    ways: dict[str, tuple[Estimator, Mean]] = {FIT: (models[BASELINE], of_first_fit)}
    ways |= {name: (model, of_model) for name, model in models.items()}
    found = {name: tried(work, "test", *way) for name, way in ways.items()}
    rough = {name: tried(work, "calibration", *way) for name, way in ways.items()}
    ratios = {name: relative(one, found[BASELINE]) for name, one in found.items()}
    as_taught = {name: relative(one, rough[BASELINE]) for name, one in rough.items()}
    numbers: dict[str, list[float]] = {
        "stars": [LEARNERS[n].share * BATCHES * STARS for n in GROUPS["stars"]],
        "passes": [float(LEARNERS[n].passes) for n in GROUPS["passes"]],
        "width": [parameters[n] / 1e3 for n in GROUPS["width"]],
    }
    (output / "figures").mkdir(parents=True, exist_ok=True)
    figure((ratios, as_taught), numbers, output / "figures" / "unified_scaling.png")
    rows = []
    for name, by_survey in found.items():
        card = cards.get(name)
        cells = ["–"] * 3
        if card is not None:
            training = card["configuration"]["training"]
            steps = card.get("steps", training["epochs"] * card["configuration"]["sky"]["steps"])
            stars = card["training_data"]["stars"]
            cells = [f"{parameters[name] / 1e6:.2f}", f"{stars:,}", f"{steps:,}"]
        for survey in SURVEYS:
            one = by_survey[survey]
            cells.append(
                " / ".join(f"{one[k]:.{digits(k)}f}" for k in MAIN) + f" / {one['[X/Fe]']:.3f}"
            )
        rows.append([name, *cells, f"{ratios[name]:.3f}", f"{as_taught[name]:.3f}"])
    head = ["model", "million parameters", "stars", "steps", *SURVEYS]
    head += ["relative scatter", "of spectra as taught"]
    return [
        f"""# What more stars, more steps and more parameters buy

```
python benchmarks/kept_sky.py WORK && python benchmarks/learners.py WORK
python benchmarks/unified_scaling.py WORK docs/results --also {" ".join(p.name for p in also)}
```

Models that learn from {BATCHES * STARS:,} stars of one kept sky, or a part of them, in steps of
{STARS} stars; `base` has width {BASE.encoder.width} and goes over them {BASE.training.epochs}
times. Parts of the sky are learnt from as many times more often: the number of steps is the same.
Tried on {TEST} other stars at S/N {SNR:g}. Each cell: 1.4826 MAD of Teff [K] / log g / [Fe/H] /
median over [X/Fe]. *Relative scatter*: to `base`, the geometric mean over surveys and these four.
*As taught*: of other stars with S/N 6 to 300, wrong lines, scattered light, lost arms and pixels,
wrong R. *{FIT}*: what all start from.

{table(head, rows)}

![Scatter against stars, passes and parameters](figures/unified_scaling.png)

{remarks("summary")}"""
    ]


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("work", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--also", type=Path, nargs="*", default=[], help="models of the same sky")
    given = parser.parse_args()
    write_page(given.output / "unified_scaling.md", page(given.work, given.also, given.output))


if __name__ == "__main__":
    main()
