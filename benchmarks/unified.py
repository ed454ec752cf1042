"""One model for six surveys: how close to the limit, how alike, and read from what.

    python benchmarks/unified.py MODEL --stars 300

MODEL is trained on the synthetic sky; the stars here have seeds that no training has. Parts that
are finished are kept in ``--work``, so that an interrupted run goes on. Writes ``unified.md``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import unified_accuracy
import unified_ages
import unified_distances
import unified_elements
import unified_pairs
import unified_pixels
import unified_speed
import unified_taught
from pages import remarks, write_page
from spectrolabe.training.stars import Stars
from unified_limits import fishers
from unified_sky import SURVEYS, Sky, read_sky

SOURCE = Path(__file__).parents[1] / "src" / "spectrolabe" / "training"
VERSION = 1  # of what is kept
PARTS = ("accuracy", "pairs", "taught", "elements", "pixels", "ages", "speed")
TAUGHT = 256  # stars as they were taught
AGES = 6  # as many stars for ages, which half of them have
Arrays = dict[str, NDArray]


def _code() -> str:
    """Digest of the code that makes the stars and their spectra."""
    digest = hashlib.sha256()
    for name in ("stars", "instruments", "observing"):
        digest.update((SOURCE / f"{name}.py").read_bytes())
    return digest.hexdigest()


class Kept:
    """Arrays by name, made once for a model, or for all models of one sky.

    Parameters
    ----------
    folder : Path
    sky : Sky
    shared : bool
        For all models that learn the same labels of the same sky.
    """

    def __init__(self, folder: Path, sky: Sky, *, shared: bool = False) -> None:
        model, emulators = sky.model, sky.stream.emulators
        scale = np.concatenate([model.scale.centre, model.scale.width]).round(9).tolist()
        sky_key = [VERSION, list(sky.names), scale, [e.card["weights_sha256"] for e in emulators]]
        sky_key += [sky.stream.config.model_dump(mode="json"), _code()]
        self.folder = folder
        self.key = sky_key if shared else [*sky_key, model.card["weights_sha256"]]

    def __call__(self, name: str, make: Callable[[], Arrays]) -> Arrays:
        """Return arrays made before, or make and keep them."""
        digest = hashlib.sha256(json.dumps([*self.key, name], sort_keys=True).encode()).hexdigest()[
            :10
        ]
        path = self.folder / f"{name}-{digest}.npz"
        if path.exists():
            with np.load(path) as file:
                return dict(file)
        begin = time.process_time()
        arrays = make()
        self.folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npz")
        np.savez(part, **arrays)
        part.replace(path)
        print(f"{name}: {time.process_time() - begin:.0f} s", flush=True)
        return arrays


INTRODUCTION = """# One model, six surveys

```
python benchmarks/unified.py {model} --stars {stars}
```

Model `{name}` ({parameters:.2f} million parameters, weights {weights}), trained on {seen:,}
simulated stars. Everything on this page is of simulated stars that it has not seen, made by the
same emulators and instruments: it says how well the model reads spectra that are as it was taught,
not how well the emulators know real stars.

{remarks}"""


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--stars", type=int, default=300, help="of each part")
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    parser.add_argument("--work", type=Path, default=Path("build/unified"))
    parser.add_argument("--limits-only", action="store_true", help="which any model can use")
    parser.add_argument("--also", type=Path, help="another model of the same labels")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    arguments = parser.parse_args()
    sky = read_sky(arguments.model)
    if arguments.limits_only:
        keep = Kept(arguments.work, sky, shared=True)
        for name, kind, seed in (("fisher", "mixed", 0), ("alone", "independent", 1)):
            stars = sky.stars(kind, arguments.stars)
            each(keep, f"{name}-{arguments.stars}", SURVEYS, fishers_of(sky, stars, seed))
        return
    (arguments.output / "figures").mkdir(parents=True, exist_ok=True)
    sections = made(arguments, sky)
    write_page(arguments.output / "unified.md", sections)


def each(keep: Kept, name: str, surveys: Sequence[str], make: Callable[[str], Any]) -> dict:
    """Return what there is of every survey, made or kept."""
    return {survey: keep(f"{name}-{survey}", partial(make, survey)) for survey in surveys}


def fishers_of(sky: Sky, stars: Stars, seed: int) -> Callable[[str], Arrays]:
    """Return what makes the Fisher matrices of stars in a survey."""
    return lambda survey: {"fisher": fishers(sky, survey, stars, [seed])}


def accuracies(keep: Kept, sky: Sky, stars: Stars, fisher: dict[str, Arrays]) -> dict[str, Arrays]:
    """Return the estimates and limits of stars in every survey, made or kept."""
    make = unified_accuracy.accuracy
    name = f"accuracy-{len(stars)}"
    return each(keep, name, SURVEYS, lambda s: make(sky, s, stars, fisher[s]["fisher"]))


def made(arguments: argparse.Namespace, sky: Sky) -> list[str]:
    """Return the sections of the page."""
    count, parts = arguments.stars, arguments.parts
    keep, limits = Kept(arguments.work, sky), Kept(arguments.work, sky, shared=True)
    pictures = arguments.output / "figures"
    mixed = sky.stars("mixed", count)
    card = sky.model.card
    parameters = sum(p.numel() for p in sky.model.encoder.parameters())
    sections = [
        INTRODUCTION.format(
            model=arguments.model.name,
            stars=count,
            name=card["name"],
            parameters=parameters / 1e6,
            weights=str(card["weights_sha256"])[:12],
            seen=card["training_data"]["stars"],
            remarks=remarks("summary"),
        )
    ]
    accuracy: dict[str, Arrays] = {}
    if {"accuracy", "pairs"} & set(parts):
        fisher = each(limits, f"fisher-{count}", SURVEYS, fishers_of(sky, mixed, 0))
        accuracy = accuracies(keep, sky, mixed, fisher)
    if "accuracy" in parts:
        unified_accuracy.figure(sky, accuracy, str(pictures / "unified_scatter.png"))
        sections += unified_accuracy.section(sky, accuracy, count, "figures/unified_scatter.png")
    if "pairs" in parts:
        found = keep(f"pairs-{count}", lambda: unified_pairs.compare(sky, mixed))
        each_fisher = {survey: what["fisher"] for survey, what in fisher.items()}
        sections.append(unified_pairs.section(sky, found, each_fisher))
    if "taught" in parts:
        pulls = each(
            keep, f"taught-{TAUGHT}", SURVEYS, lambda s: unified_taught.pulls(sky, s, TAUGHT)
        )
        sections.append(unified_taught.section(sky, pulls))
    if "elements" in parts:
        stars = sky.stars("independent", count), sky.stars("galaxy", count)
        possible = each(limits, f"alone-{count}", SURVEYS, fishers_of(sky, stars[0], 1))
        slopes = each(
            keep,
            f"slopes-{count}",
            SURVEYS,
            lambda s: unified_elements.slopes(sky, s, *stars, possible[s]["fisher"]),
        )
        unified_elements.figure(sky, slopes, str(pictures / "unified_elements.png"))
        sections.append(unified_elements.section(sky, slopes, (count, count)))
    if "pixels" in parts:
        read = each(keep, "pixels", unified_pixels.READ, lambda s: unified_pixels.attribute(sky, s))
        unified_pixels.figure(sky, read["galah"], "galah", str(pictures / "unified_pixels.png"))
        sections.append(unified_pixels.section(sky, read))
    if "ages" in parts:
        field = sky.stars("galaxy", AGES * count, [1])
        ages = each(keep, f"ages-{count}", SURVEYS, lambda s: unified_ages.galactic(sky, s, field))
        sections.append(unified_ages.section(sky, ages))
        sections.append(unified_distances.section(sky, ages))
    if "speed" in parts:
        some = mixed.take(np.arange(min(32, count)))
        rates = each(keep, "speed", SURVEYS, lambda s: unified_speed.speed(sky, s, some))
        sections.append(unified_speed.section(rates, parameters, len(some)))
    if "accuracy" in parts and arguments.also:
        other = read_sky(arguments.also)
        tried = accuracies(Kept(arguments.work, other), other, mixed, fisher)
        both = {str(card["name"]): (sky, accuracy), str(other.model.card["name"]): (other, tried)}
        sections.append(unified_accuracy.also_section(both))
    if "accuracy" in parts:
        sections.append(unified_accuracy.full_section(sky, accuracy))
    return sections


if __name__ == "__main__":
    main()
