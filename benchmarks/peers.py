"""Other packages on the same spectra of the same stars.

    python benchmarks/peers.py WORK [--output docs/results]

A synthetic sky of APOGEE; 1,000 stars with labels to learn from and 300 others. Each peer has a
virtual environment of its own in WORK, into which it is installed from the package index, and
learns and answers in a process of its own (`peer_*.py`). Whatever fails is named on the page. What
is there in WORK is not made again.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pages import remarks, table, write_page
from spectrolabe.config import TrainConfig, load_config
from spectrolabe.config.sky import SkyConfig
from spectrolabe.labels import LABELS, Labels
from spectrolabe.models.baselines import baseline
from spectrolabe.models.checkpoint import load
from spectrolabe.models.posterior import LabelPosterior
from spectrolabe.models.released import find_model
from spectrolabe.sky.simulate import simulate
from spectrolabe.spectra import Spectrum
from spectrolabe.spectra.continuum import running_continuum
from spectrolabe.spectra.degrade import degrade
from spectrolabe.spectra.observe import shift_flux
from spectrolabe.spectra.store import StoreWriter
from spectrolabe.surveys.files import read_table
from spectrolabe.surveys.reading import Unread, expand, read_all
from spectrolabe.training.trainer import train
from spectrolabe.validation.metrics import LabelMetrics, evaluate

NAMES = ("teff", "logg", "fe_h", "v_micro", "c_fe", "n_fe", "mg_fe", "si_fe")
SHOWN = ("teff", "logg", "fe_h", "mg_fe")
TRAIN, TEST, SEED = 1000, 300, 11
WIDTH = 0.01  # of the running continuum, in ln(wavelength)
CASES = {
    "as they are": "plain",
    "a fifth of the pixels masked": "masked",
    "a third of the wavelengths missing": "missing",
    "velocity wrong by 30 km/s": "velocity",
    "half the resolution": "resolution",
}


class Peer(NamedTuple):
    """A package, how it is installed, and what runs it."""

    name: str
    requirements: tuple[str, ...]
    script: str


PEERS = (
    Peer("TheCannon 0.7.3 (Ho)", ("thecannon==0.7.3", "scipy", "matplotlib", "astropy"),
         "peer_cannon_ho.py"),
    Peer("the-cannon 0.2.6 (Casey)", ("the-cannon==0.2.6", "numpy<2", "scipy", "six"),
         "peer_cannon_casey.py"),
    Peer("astroNN 1.1.0", ("astroNN==1.1.0", "tensorflow-cpu==2.15.1",
         "tensorflow-probability==0.23.0", "numpy<2"), "peer_astronn.py"),
)  # fmt: skip


class Stars(NamedTuple):
    """Stars with one combined spectrum each."""

    spectra: list[Spectrum]
    labels: Labels

    def take(self, rows: NDArray) -> Stars:
        """Return some of them."""
        return Stars([self.spectra[i] for i in rows], self.labels.take(rows))


class Answer(NamedTuple):
    """What a method says of the stars of each case, and what that cost."""

    said: dict[str, LabelPosterior]
    training: float  # s of processor time
    each: float  # ms of processor time a star
    memory: float  # GB


def sky(work: Path) -> tuple[Stars, Stars]:
    """Return stars to learn from, and others."""
    folder = work / "sky"
    others = ("galah", "desi", "gaia_rvs", "lamost_lrs", "sdss_boss")
    settings = [f"surveys.{name}.share=0" for name in others]
    settings += ["surveys.apogee.share=1.0", "clusters.count=0", "binaries.count=0"]
    settings += [f"population.stars={TRAIN * 2}", "population.magnitude=[9.0,14.5]", f"seed={SEED}"]
    simulate(load_config(Path("configs/sky.toml"), settings, SkyConfig), folder, workers=2)
    spectra = []
    for _, found in read_all(expand([folder / "apogee" / "stars"]), "apogee"):
        if not isinstance(found, Unread):
            spectra.append(next(s for s in found if s.meta.get("coadd", True)))
    truth = read_table(folder / "truth.parquet")
    row = {name: i for i, name in enumerate(truth["spectrum_id"])}
    order = [row[s.spectrum_id] for s in spectra]
    values = np.column_stack([np.asarray(truth[name])[order] for name in NAMES])
    ids = np.array([s.star_id for s in spectra])
    stars = Stars(spectra, Labels(NAMES, values, np.full(values.shape, np.nan), ids))
    chosen = np.random.default_rng(SEED).permutation(len(spectra))[: TRAIN + TEST]
    return stars.take(chosen[:TRAIN]), stars.take(chosen[TRAIN:])


def changed(spectrum: Spectrum, case: str, rng: np.random.Generator) -> Spectrum:
    """Return a spectrum as one of the cases has it."""
    ivar = np.array(spectrum.ivar)
    if case == "masked":
        ivar[rng.random(ivar.size) < 0.2] = 0.0
        return spectrum.replace(ivar=ivar)
    if case == "missing":
        low, high = spectrum.wavelength[0], spectrum.wavelength[-1]
        ivar[spectrum.wavelength > high - (high - low) / 3.0] = 0.0
        return spectrum.replace(ivar=ivar)
    if case == "velocity":
        whole = np.interp(
            spectrum.wavelength, spectrum.wavelength[ivar > 0], spectrum.flux[ivar > 0]
        )
        return spectrum.replace(flux=shift_flux(spectrum.wavelength, whole, 30.0))
    if case == "resolution":
        return degrade(spectrum, float(np.median(spectrum.resolution)) / 2.0)
    return spectrum


def normalised(spectra: list[Spectrum]) -> tuple[NDArray, NDArray]:
    """Return flux over a running continuum and its ivar; 1 and 0 where it is not known."""
    flux, ivar = (np.array([getattr(s, key) for s in spectra], float) for key in ("flux", "ivar"))
    level = running_continuum(spectra[0].wavelength, flux, ivar, WIDTH)
    good = (ivar > 0) & (level > 0) & np.isfinite(level)
    level = np.where(good, level, 1.0)
    return np.where(good, flux / level, 1.0), np.where(good, ivar * level**2, 0.0)


def archive(path: Path, learnt: Stars, cases: dict[str, list[Spectrum]]) -> None:
    """Write what peers are given: normalised spectra on one grid at rest, and labels."""
    flux, ivar = normalised(learnt.spectra)
    arrays = {"flux": flux, "ivar": ivar, "labels": learnt.labels.values, "names": np.array(NAMES)}
    for case, spectra in cases.items():
        arrays[f"flux_{case}"], arrays[f"ivar_{case}"] = normalised(spectra)
    wavelength = learnt.spectra[0].wavelength
    np.savez(path, wavelength=wavelength, cases=np.array(list(cases)), **arrays)


def ask_peer(work: Path, peer: Peer, given: Path, ids: list[str]) -> Answer | str:
    """Install and run a peer; return what it says, or why it did not."""
    folder = work / peer.script.removesuffix(".py")
    python, result = folder / "bin" / "python", folder / "result.npz"
    if not result.exists():
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        install = [python, "-m", "pip", "install", "--quiet", *peer.requirements]
        script = Path(__file__).with_name(peer.script)
        for command in (install, [python, script, given, result]):
            done = subprocess.run(command, capture_output=True, text=True, env=one_thread())
            if done.returncode:
                return done.stderr.strip().splitlines()[-1][:300]
    found = np.load(result, allow_pickle=False)
    said = {}
    for case in CASES.values():
        mean, sigma = found[f"mean_{case}"], found[f"sigma_{case}"]
        fine = np.isfinite(mean) & (np.abs(mean) < 1e5)
        mean = np.where(fine, mean, np.nan)
        sigma = np.where(np.isfinite(sigma) & (sigma > 0), sigma, 1e-9)
        posterior = LabelPosterior.independent(NAMES, np.nan_to_num(mean), sigma, ids)
        said[case] = posterior.without(~fine)
    each = 1e3 * float(found["seconds_plain"]) / len(ids)
    return Answer(said, float(found["training"]), each, float(found["memory"]))


def one_thread() -> dict[str, str]:
    """Return the environment of a process with one thread."""
    keys = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return {**clean, **dict.fromkeys(keys, "1"), "CUDA_VISIBLE_DEVICES": ""}


def ask(
    answers: Callable[[list[list[Spectrum]]], LabelPosterior | Labels],
    cases: dict[str, list[Spectrum]],
    training: float,
) -> Answer:
    """Ask one of ours."""
    said, seconds = {}, 0.0
    for case, spectra in cases.items():
        begin = time.process_time()
        found = answers([[one] for one in spectra])
        seconds = seconds or time.process_time() - begin
        if isinstance(found, Labels):
            sigma = np.full(found.values.shape, 1e-9)
            found = LabelPosterior.independent(NAMES, found.values, sigma, found.star_id)
        said[case] = found.select(NAMES)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return Answer(said, training, 1e3 * seconds / len(cases["plain"]), peak)


def adapted(work: Path, learnt: Stars) -> tuple[Path, float]:
    """Return the released model after the stars to learn from, and what that took."""
    store, run, cost = work / "store", work / "adapted", work / "adapted.json"
    if not cost.exists():
        shutil.rmtree(store, ignore_errors=True)
        with StoreWriter(store, NAMES) as writer:
            for spectrum, values in zip(learnt.spectra, learnt.labels.values, strict=True):
                labels = dict(zip(NAMES, values, strict=True))
                sigma = {name: TRUTH[name] for name in NAMES}
                file = f"{spectrum.star_id}.fits"
                writer.append(spectrum, values=labels, sigma=sigma, file=file)
        config = TrainConfig.model_validate(
            {
                "name": "adapted",
                "data": {"store": str(store), "labels": list(NAMES), "selection": 0.0},
                "transfer": {"start": "default", "recipe": "lowrank"},
                "augmentation": {"versions": 2},
                "training": {"epochs": 12, "batch_size": 16, "learning_rate": 1e-3},
            }
        )
        begin = time.process_time()
        train(config, run)
        cost.write_text(json.dumps(time.process_time() - begin))
    return run, json.loads(cost.read_text())


TRUTH = {"teff": 5.0, "v_micro": 0.02, **dict.fromkeys(("logg", "fe_h"), 0.01)}
TRUTH |= dict.fromkeys(("c_fe", "n_fe", "mg_fe", "si_fe"), 0.01)  # of labels to learn from


def main() -> None:
    """Run all, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("work", type=Path)
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    work: Path = arguments.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    learnt, others = sky(work)
    rng = np.random.default_rng(SEED)
    cases = {c: [changed(s, c, rng) for s in others.spectra] for c in CASES.values()}
    given = work / "given.npz"
    if not given.exists():
        archive(given, learnt, cases)
    ids = [s.star_id for s in others.spectra]
    answers: dict[str, Answer | str] = {}
    for peer in PEERS:
        answers[peer.name] = ask_peer(work, peer, given, ids)
        print(
            peer.name, answers[peer.name] if isinstance(answers[peer.name], str) else "", flush=True
        )
    begin = time.process_time()
    ridge = baseline("ridge")()
    ridge.fit([[s] for s in learnt.spectra], learnt.labels)
    answers["ridge regression"] = ask(ridge.predict, cases, time.process_time() - begin)
    released = load(find_model("default"))
    answers["`unified-v1` as released"] = ask(released.predict, cases, 0.0)
    run, cost = adapted(work, learnt)
    answers["`unified-v1` after the same stars"] = ask(load(run).predict, cases, cost)
    write_page(arguments.output / "peers.md", page(answers, others))


def page(answers: dict[str, Answer | str], others: Stars) -> list[str]:
    """Return the page."""
    good = {name: one for name, one in answers.items() if isinstance(one, Answer)}
    snr = np.median([s.snr for s in others.spectra])
    return [
        f"""# Beside other packages

```
python benchmarks/peers.py WORK
```

{TRAIN:,} simulated stars of APOGEE with their labels to learn from, {TEST} others to be judged by;
no star is in both. Median S/N of a combined spectrum {snr:.0f}. Peers get what they need: flux over
a running continuum ({WIDTH:g} in ln wavelength) on one grid, at rest by the velocities that the
survey's pipeline measured, with inverse variances. Ours are given the spectra as they are read. All
learn and answer for {", ".join(f"`{name}`" for name in NAMES)}. Seconds are
those of the processor, of one thread.""",
        remarks("summary"),
        "## What runs",
        of_running(answers),
        remarks("running"),
        "## As they are",
        of_accuracy(good, others, "plain"),
        remarks("plain"),
        "## Spectra that are not perfect",
        "1.4826 MAD and, in brackets, the median error, of Teff in K and [Fe/H] in dex.",
        of_cases(good, others),
        remarks("cases"),
    ]


def of_running(answers: dict[str, Answer | str]) -> str:
    """Return the table of costs, and of what failed."""
    rows = []
    for name, one in answers.items():
        if isinstance(one, str):
            rows.append([name, f"did not run: `{one}`", "–", "–"])
        else:
            each = f"{one.each:.1f}"
            rows.append([name, f"{one.training:.0f}", each, f"{one.memory:.1f}"])
    return table(["", "learning [s]", "a star [ms]", "memory [GB]"], rows)


def judged(answer: Answer, others: Stars, case: str) -> dict[str, LabelMetrics]:
    """Return how far off an answer is, by label."""
    rng = np.random.default_rng(0)
    limits = {name: OUTLIER[name] for name in NAMES}
    found = evaluate(
        others.labels, answer.said[case], outlier_limits=limits, bootstrap=200, rng=rng
    )
    return {one.label: one for one in found}


OUTLIER = {"teff": 300.0, "logg": 0.5, "v_micro": 0.5}
OUTLIER |= dict.fromkeys(("fe_h", "c_fe", "n_fe", "mg_fe", "si_fe"), 0.2)


def of_accuracy(good: dict[str, Answer], others: Stars, case: str) -> str:
    """Return the table of one case."""
    rows = []
    for label in NAMES:
        for name, answer in good.items():
            one = judged(answer, others, case)[label]
            digits = 0 if LABELS[label].unit == "K" else 3
            numbers = [
                f"{one.bias:+.{digits}f}",
                f"{one.mad:.{digits}f} ± {one.errors['mad']:.{digits}f}",
                f"{one.rmse:.{digits}f}",
                f"{100 * one.outlier_fraction:.1f} %",
            ]
            stated = answer.said[case].sigma[:, NAMES.index(label)]
            known = np.nanmedian(stated) > 1e-6
            pulls = f"{one.pull_std:.2f}" if known else "–"
            rows.append([f"{label} [{LABELS[label].unit}]", name, *numbers, pulls])
    head = ["label", "", "bias", "1.4826 MAD", "RMSE", "outliers", "pull width"]
    return table(head, rows)


def of_cases(good: dict[str, Answer], others: Stars) -> str:
    """Return the table of all cases."""
    rows = []
    for title, case in CASES.items():
        for name, answer in good.items():
            found = judged(answer, others, case)
            teff, fe_h = found["teff"], found["fe_h"]
            rows.append(
                [title, name, f"{teff.mad:.0f} ({teff.bias:+.0f})",
                 f"{fe_h.mad:.3f} ({fe_h.bias:+.3f})", f"{100 * teff.outlier_fraction:.0f} %"]
            )  # fmt: skip
    return table(["spectra", "", "Teff", "[Fe/H]", "off by 300 K"], rows)


if __name__ == "__main__":
    sys.exit(main())
