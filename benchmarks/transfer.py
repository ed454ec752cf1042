"""How many stars bring a model to the label scale of a survey that it was not trained on?

    python benchmarks/transfer.py KEPT STORE WORK --choose      # settings, on training stars alone
    python benchmarks/transfer.py KEPT STORE WORK --miles MILES  # the runs
    python benchmarks/transfer.py KEPT STORE WORK --page docs/results

KEPT has the models of ``learners.py``, one of each head, all taught by the same simulated stars,
that have seen no real spectrum; STORE is an ingested survey with the splits ``train`` and ``val``,
WORK a folder for ``runs.jsonl``: one line a run, and no run is done twice.
Settings are chosen by stars of the training split that the models they are chosen for do not see;
the validation split is looked at once, by the final runs.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.typing import NDArray

from figures import STYLE
from pages import remarks, table, write_page
from samples import Sample as Others
from samples import in_range, miles
from spectrolabe.config import TrainConfig, TransferConfig
from spectrolabe.labels import LABELS, LabelScale
from spectrolabe.models.checkpoint import load
from spectrolabe.models.encoder import Encoder
from spectrolabe.models.estimator import Estimator
from spectrolabe.models.files import CARD
from spectrolabe.models.observed import Observed
from spectrolabe.models.released import find_model
from spectrolabe.spectra import Spectrum
from spectrolabe.spectra.store import open_store
from spectrolabe.training.data import Sample, Splits, load_sample
from spectrolabe.training.loop import learn
from spectrolabe.training.observed import learn_observed
from spectrolabe.training.release import encode_sample
from spectrolabe.training.trainer import EncoderTask
from spectrolabe.training.transfer import Start, continued, encoder_from, merge, read_start

NAMES = ("teff", "logg", "fe_h")
LIMITS = (300.0, 0.4, 0.4)  # beyond which a residual is an outlier
SNR_CUT, TEFF_CUT = 30.0, 8000.0
SIZES = (10, 30, 100, 300, 0)  # stars; 0 = all of them
ORDER = (30, 0, 10, 300, 100)  # what is most wanted first
DRAWS, DRAWS_OF_ALL = 5, 1
BATCH, VERSIONS = 16, 6
SELECTION = 0.25  # of the training stars, to choose settings by

# models of `learners.py`, which differ from the start in their heads alone
HEADS = {
    "normal, embedding not ordered": "base",
    "binned": "binned",
    "binned, asymmetric": "binned-asymmetric",
    "binned, asymmetric, embedding": "binned-asymmetric-embedding",
}
START = "gaussian-embedding"  # among them: the head of the released model
RECIPES = {"all weights": "full", "head alone": "head", "low rank": "lowrank"}
SCRATCH, AS_IS, SHIFTED = "from scratch", "as it is", "as it is, shifted by the median"
TAUGHT = "first fit taught, weights as they are"
UNTAUGHT = "all weights, first fit untaught"
OTHER = (AS_IS, TAUGHT, "all weights", UNTAUGHT)  # tried on the library
FIRST = "first-light model"  # weights/lamost-dr10: from scratch, all stars, 6,000 steps


@dataclass(frozen=True)
class Settings:
    """How a variant is fitted."""

    rate: float = 1e-3
    steps: int = 200
    rank: int = 4


@dataclass(frozen=True, eq=False)
class Survey:
    """The stars of a survey: to draw from, to choose settings by, and to validate with; and those
    of a library that nobody learns from."""

    good: Sample
    every: Sample
    selection: Sample
    validation: Sample
    others: Others | None = None

    def drawn(self, size: int, draw: int, *, choosing: bool) -> Sample:
        """Return all spectra of some stars, those of a smaller size among those of a larger."""
        sample = self.every if size == 0 else self.good
        if choosing:
            kept = np.isin(sample.labels.star_id, self.selection.labels.star_id)
            sample = sample.take(~kept)
        if size == 0:
            return sample
        stars = np.random.default_rng(draw).permutation(np.unique(sample.labels.star_id))
        return sample.take(np.isin(sample.labels.star_id, stars[:size]))


def read_survey(path: str, library: Path | None = None) -> Survey:
    """Open the store of a survey, and the folder of MILES."""
    store = open_store(path)

    def load(split: str, quality_cut: bool) -> Sample:
        data = {"store": path, "labels": NAMES, "split": split, "quality_cut": quality_cut}
        return load_sample(store, TrainConfig.model_validate({"name": "x", "data": data}).data)

    every, good, validation = load("train", False), load("train", True), load("val", False)
    stars = np.unique(every.labels.star_id)
    kept = np.random.default_rng(99).permutation(stars)[: int(SELECTION * len(stars))]
    selection = good.take(np.isin(good.labels.star_id, kept))
    others = None if library is None else in_range(miles(library))
    return Survey(good, every, _evaluated(selection), _evaluated(validation), others)


def _evaluated(sample: Sample) -> Sample:
    return sample.take((sample.column("snr") > SNR_CUT) & (sample.labels["teff"] < TEFF_CUT))


@dataclass(frozen=True, eq=False)
class Model:
    """What has learnt from some stars."""

    encoder: Encoder
    scale: LabelScale

    def estimates(self, sample: Sample) -> NDArray:
        """Return labels, (N, 3), in physical units."""
        mean = self.scale.unscale(encode_sample(self.encoder, sample)[0])
        return mean[:, [self.scale.names.index(name) for name in NAMES]]

    def of_others(self, start: Start, spectra: list[list[Spectrum]]) -> NDArray:
        """Return the same of stars of a survey that nobody taught, as `predict` reads them."""
        known = start.estimator
        reader = Estimator(
            self.encoder, self.scale, known.recalibration, known.coverage, known.card
        )
        return reader.estimate(spectra).raw.select(NAMES).mean


class Common:
    """What variants have in common that learn from the same stars: first fits, and their teaching.

    All models of ``learners.py`` have the same compact spectra.
    """

    def __init__(self) -> None:
        self.drawn: Any = None
        self.observed: Observed | None = None
        self.kept: dict[str, dict[int, Any]] = {}

    def share(self, task: EncoderTask, drawn: Any, variant: str, seed: int) -> None:
        """Give a task what tasks before it made of the same stars, and keep what it will make."""
        if self.drawn != drawn:
            self.drawn, self.observed, self.kept = drawn, None, {}
        guesser = task.encoder.guesser
        kind = "bare" if guesser is None else "untaught" if variant == UNTAUGHT else "taught"
        task.kept = self.kept.setdefault(kind, {})
        if guesser is not None and kind == "taught":
            if self.observed is None:
                learn_observed(guesser.compact, task.train, seed, progress=False)
                self.observed = guesser.compact.observed
            guesser.compact.observed = deepcopy(self.observed)


COMMON = Common()


def fitted(
    variant: str, settings: Settings, stars: Sample, start: Start, seed: int, drawn: Any
) -> Model:
    """Return what a variant makes of stars; ``drawn`` says which these are."""
    transfer: dict[str, Any] = {"start": "given", "rank": settings.rank, "observed": False}
    if variant in RECIPES:
        transfer["recipe"] = RECIPES[variant]
    batch = min(BATCH, len(stars))
    config = TrainConfig.model_validate(
        {
            "name": variant,
            "data": {"store": "given", "labels": NAMES, "selection": 0.0, "calibration": 0.0},
            "augmentation": {"versions": VERSIONS},
            "transfer": transfer,
            "training": {
                "seed": seed,
                "epochs": int(np.ceil(settings.steps / np.ceil(len(stars) / batch))),
                "batch_size": batch,
                "learning_rate": settings.rate,
            },
        }
    )
    config = continued(config, start)
    scratch = variant == SCRATCH
    if scratch:  # its compact spectra are computed ones: part of what the start knows
        bare = config.encoder.model_copy(update={"compact": None})
        config = config.model_copy(update={"encoder": bare})
    scale = LabelScale.fit(stars.labels) if scratch else start.estimator.scale
    stars = stars.with_labels(scale.names)
    none = stars.take(np.zeros(len(stars), dtype=bool))
    splits = Splits(stars, none, none)
    task = EncoderTask(config, splits, scale, start=None if scratch else start, progress=False)
    COMMON.share(task, drawn, variant, seed)
    with tempfile.TemporaryDirectory() as folder:
        learnt = learn(task, config.training, Path(folder), title=variant, progress=False)
    return Model(merge(cast(Encoder, learnt)), scale)


def metrics(residual: NDArray) -> dict[str, dict[str, float]]:
    """Bias, 1.4826 MAD, RMSE and outliers of each label."""
    found = {}
    for name, limit, column in zip(NAMES, LIMITS, residual.T, strict=True):
        bias = float(np.median(column))
        found[name] = {
            "bias": bias,
            "mad": float(1.4826 * np.median(np.abs(column - bias))),
            "rmse": float(np.sqrt(np.mean(column**2))),
            "outliers": float(np.mean(np.abs(column) > limit)),
        }
    return found


Starts = dict[str, Start]  # of every variant


class Runs:
    """Records in a file, one line a run; what is there is not done again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text().splitlines() if path.exists() else []
        self.records: list[dict[str, Any]] = [json.loads(line) for line in lines]

    def done(self, key: dict[str, Any]) -> bool:
        """Tell whether there is a record of this key."""
        return any(all(one[k] == v for k, v in key.items()) for one in self.records)

    def add(self, record: dict[str, Any]) -> None:
        """Append a record."""
        self.records.append(record)
        with self.path.open("a") as stream:
            stream.write(json.dumps(record) + "\n")
        errors = ", ".join(
            f"{name} {m['bias']:+.3g} {m['mad']:.3g}" for name, m in record["metrics"].items()
        )
        print(record["role"], record["variant"], record["size"], record["draw"], errors, flush=True)

    def of(self, **key: Any) -> list[dict[str, Any]]:
        """Return the records with these entries."""
        return [one for one in self.records if all(one[k] == v for k, v in key.items())]


def run(
    runs: Runs,
    survey: Survey,
    start: Start,
    role: str,
    variant: str,
    size: int,
    draw: int,
    settings: Settings,
) -> None:
    """Fit one variant to one draw of stars and record its errors, unless that is done."""
    key = {
        "role": role,
        "variant": variant,
        "size": size,
        "draw": draw,
        "settings": asdict(settings),
        "start": start.sha256,
    }
    if runs.done(key):
        return
    began = time.monotonic()
    stars = survey.drawn(size, draw, choosing=role == "choose")
    model = model_of(variant, settings, stars, start, draw, (role, size, draw))
    if role == "other":
        assert survey.others is not None
        found = model.of_others(start, survey.others.spectra)
        truth = survey.others.labels.select(NAMES).values
    else:
        sample = survey.selection if role == "choose" else survey.validation
        found = model.estimates(sample)
        truth = sample.labels.values
    residual = found - truth
    if variant == SHIFTED:
        residual += np.median(stars.labels.values - model.estimates(stars), axis=0)
    seconds = round(time.monotonic() - began, 1)
    runs.add({**key, "spectra": len(stars), "seconds": seconds, "metrics": metrics(residual)})


def model_of(
    variant: str, settings: Settings, stars: Sample, start: Start, draw: int, drawn: Any
) -> Model:
    """Return what a variant makes of a draw of stars."""
    if variant == FIRST:
        known = load(find_model("lamost-dr10"))
        return Model(known.encoder, known.scale)
    if variant in (AS_IS, SHIFTED):
        return Model(start.estimator.encoder, start.estimator.scale)
    if variant == TAUGHT:
        return _taught(start, stars)
    return fitted(variant, settings, stars, start, draw, drawn)


def _taught(start: Start, stars: Sample) -> Model:
    encoder = encoder_from(start, start.encoder)
    guesser = encoder.guesser
    if guesser is None:
        raise SystemExit(f"{start.name} has no first fit that could learn")
    learn_observed(guesser.compact, stars, 0, progress=False)
    return Model(encoder.eval(), start.estimator.scale)


def error(record: dict[str, Any]) -> float:
    """One number of a run: RMSE of the labels in units of the limits, robust to a few outliers."""
    parts = [
        np.hypot(m["bias"], m["mad"]) / limit
        for m, limit in zip(record["metrics"].values(), LIMITS, strict=True)
    ]
    return float(np.mean(parts))


CHOSEN_AT = 30  # stars
CHOICE_DRAWS = (100, 101)
STEPS = {10: 100, 30: 150, 100: 300, 300: 600, 0: 1500}
RATES = {SCRATCH: (1e-3, 3e-3), "all weights": (3e-4, 1e-3)}
OTHER_RATES = (1e-3, 3e-3)


def candidates(variant: str) -> Iterator[Settings]:
    """Settings that are tried."""
    for rate in RATES.get(variant, OTHER_RATES):
        yield Settings(rate=rate, steps=STEPS[CHOSEN_AT])


def choose(runs: Runs, survey: Survey, start: Start, variants: Sequence[str]) -> None:
    """Try settings on training stars."""
    for variant in variants:
        for settings in candidates(variant):
            for draw in CHOICE_DRAWS:
                run(runs, survey, start, "choose", variant, CHOSEN_AT, draw, settings)


def chosen(runs: Runs, variant: str, size: int) -> Settings:
    """Return the settings of the smallest error on stars kept apart; others have those of full."""
    variant = "all weights" if variant in (*HEADS, UNTAUGHT) else variant
    tried: dict[str, list[float]] = {}
    for one in runs.of(role="choose", variant=variant, size=CHOSEN_AT):
        tried.setdefault(json.dumps(one["settings"]), []).append(error(one))
    if not tried:
        raise SystemExit(f"run with --choose first: nothing chosen for {variant}")
    best = json.loads(min(tried, key=lambda key: float(np.mean(tried[key]))))
    return Settings(**{**best, "steps": STEPS[size]})


def final(runs: Runs, survey: Survey, starts: Starts, variants: Sequence[str]) -> None:
    """Do all runs, the first draw of everything first."""
    for variant in (AS_IS, FIRST):
        if variant in variants:
            run(runs, survey, starts[variant], "final", variant, 0, 0, Settings())
    for variant in OTHER:
        if variant in variants and survey.others is not None:
            untrained = variant in (AS_IS, TAUGHT)
            settings = Settings() if untrained else chosen(runs, variant, 0)
            run(runs, survey, starts[variant], "other", variant, 0, 0, settings)
    for draw in range(DRAWS):
        for size in ORDER:
            for variant in variants:
                if variant in (AS_IS, FIRST) or (size == 0 and draw >= DRAWS_OF_ALL):
                    continue
                untrained = variant in (SHIFTED, TAUGHT)
                settings = Settings() if untrained else chosen(runs, variant, size)
                run(runs, survey, starts[variant], "final", variant, size, draw, settings)


def cell(records: Sequence[dict[str, Any]], name: str) -> str:
    """Bias, scatter, RMSE and outliers: the mean over draws, with the spread of the first two."""
    if not records:
        return "–"
    digits = 0 if name == "teff" else 3
    column = {
        key: np.array([one["metrics"][name][key] for one in records])
        for key in ("bias", "mad", "rmse", "outliers")
    }

    def with_spread(key: str, sign: str) -> str:
        text = f"{column[key].mean():{sign}.{digits}f}"
        more = f" ± {column[key].std(ddof=1):.{digits}f}" if len(records) > 1 else ""
        return text + more

    outliers = 100 * column["outliers"].mean()
    rmse = f"{column['rmse'].mean():.{digits}f}"
    return f"{with_spread('bias', '+')} / {with_spread('mad', '')} / {rmse} / {outliers:.0f} %"


def tables(runs: Runs, starts: Starts, variants: Sequence[str]) -> str:
    """One table a label."""
    parts = []
    for name in NAMES:
        rows = []
        for variant in variants:
            found = [
                runs.of(role="final", variant=variant, size=size, start=starts[variant].sha256)
                for size in SIZES
            ]
            none: list[dict[str, Any]] = []
            if variant == AS_IS:  # its one run has no size
                none, found = found[-1], [[] for _ in SIZES]
            rows.append([variant, *(cell(one, name) for one in (none, *found))])
        unit = LABELS[name].unit
        parts.append(
            f"### {name} [{unit}]\n\n"
            + table(
                ["model", "no star", *(f"{size} stars" if size else "all" for size in SIZES)], rows
            )
        )
    return "\n\n".join(parts)


def other_table(runs: Runs, starts: Starts) -> str:
    """The library, by models that learnt all stars of the survey."""
    rows = []
    for variant in OTHER:
        found = runs.of(role="other", variant=variant, start=starts[variant].sha256)
        if found:
            rows.append([variant, *(cell(found, name) for name in NAMES)])
    return table(["model", *NAMES], rows)


def settings_table(runs: Runs, variants: Sequence[str]) -> str:
    """What was chosen, and how good it was on the stars that it was chosen by."""
    rows = []
    for variant in variants:
        for one in candidates(variant):
            tried = runs.of(role="choose", variant=variant, settings=asdict(one))
            if tried:
                mark = " (chosen)" if chosen(runs, variant, CHOSEN_AT).rate == one.rate else ""
                cells = [cell(tried, name) for name in NAMES]
                number = f"{np.mean([error(t) for t in tried]):.3f}"
                rows.append([variant, f"{one.rate:g}{mark}", number, *cells])
    head = ["model", "learning rate", "error", *NAMES]
    return table(head, rows)


def figure(runs: Runs, starts: Starts, variants: Sequence[str], total: int, path: Path) -> None:
    """Error against the number of stars."""
    with plt.rc_context(STYLE):
        drawing, axes = plt.subplots(1, 3, figsize=(11, 4.2), layout="constrained")
        for axis, name in zip(axes, NAMES, strict=True):
            for k, variant in enumerate(v for v in variants if v != AS_IS):
                points = []
                sha256 = starts[variant].sha256
                for size in SIZES:
                    found = runs.of(role="final", variant=variant, size=size, start=sha256)
                    errors = [
                        np.hypot(one["metrics"][name]["bias"], one["metrics"][name]["mad"])
                        for one in found
                    ]
                    if errors:
                        points.append((size or total, np.mean(errors), np.std(errors)))
                if points:
                    x, y, spread = np.transpose(points)
                    axis.errorbar(
                        x * 1.02**k,
                        y,
                        spread,
                        label=variant,
                        marker="o",
                        ms=3,
                        lw=1,
                        color=plt.get_cmap("tab20")(k % 20),
                        ls="--" if variant in HEADS else "-",
                    )
            axis.set(xscale="log", yscale="log", xlabel="stars with labels")
            entry = LABELS[name]
            axis.set_ylabel(f"error of {entry.latex} [{entry.unit}]")
            axis.yaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_minor_formatter("{x:g}")
        drawing.legend(
            *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=7
        )
        drawing.savefig(path, dpi=110)
        plt.close(drawing)


def page(runs: Runs, survey: Survey, starts: Starts, variants: Sequence[str], output: Path) -> Path:
    """Write the page and its figure."""
    (output / "figures").mkdir(parents=True, exist_ok=True)
    stars, start = len(np.unique(survey.every.labels.star_id)), starts[AS_IS]
    figure(runs, starts, variants, stars, output / "figures" / "transfer.png")
    limits = ", ".join(
        f"{limit:g} {LABELS[name].unit} in {name}"
        for name, limit in zip(NAMES, LIMITS, strict=True)
    )
    introduction = f"""# Few stars: from a synthetic sky to the labels of a survey

How many stars with labels of LASP bring a model to the scale of LAMOST DR10? The model is
`{start.name}` (weights sha256 `{start.sha256[:12]}`), which has seen no real spectrum. Written by
`benchmarks/transfer.py`, except the remarks.

Stars are drawn from the {len(np.unique(survey.good.labels.star_id))} of the split `train` that pass
the survey's cut (S/N_g > 30); "all" are {stars}, also noisy ones. {DRAWS} draws, those of 10 among
those of 30 and so on; of all stars {DRAWS_OF_ALL} seeds. Errors are against LASP on the
{len(survey.validation)} spectra of `val` with S/N_g > {SNR_CUT:g} and LASP Teff < {TEFF_CUT:g} K.

Learning rates were chosen at {CHOSEN_AT} stars with {SELECTION:.0%} of the training stars, which
the models that they were chosen with had not seen, from other draws than those of the result.
Models with other heads have the rate of *all weights*, too: all are of width 64, and each has
learnt, with its head, from the same 20,000 simulated stars. The numbers of steps of 16 spectra
were set before: {", ".join(f"{n} for {k or 'all'}" for k, n in STEPS.items())} stars.
The validation stars played no part in it.

Each cell is *median bias / 1.4826 MAD / RMSE / outliers*, the mean over draws, ± the standard
deviation of one draw; *{FIRST}* is `weights/lamost-dr10`, trained on all stars from scratch with
6,000 steps. Outliers are beyond {limits}. Of the figure, errors are
√(bias² + scatter²).

{remarks("summary")}"""
    sections = [
        introduction,
        "![Error against the number of stars](figures/transfer.png)",
        tables(runs, starts, variants),
        remarks("results"),
        "## A library that nobody learnt from\n\nMILES, against literature values that scatter by "
        "100 K, 0.2 and 0.1 dex; models that learnt all stars of LAMOST, or none.\n\n"
        + other_table(runs, starts),
        remarks("other"),
        "## Settings\n\n" + settings_table(runs, variants),
        remarks("settings"),
    ]
    write_page(output / "transfer.md", sections)
    return output / "transfer.md"


def main() -> None:
    """Choose, run, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kept", type=Path, help="folder of learners.py, with a model a head")
    parser.add_argument("store")
    parser.add_argument("work", type=Path)
    parser.add_argument("--choose", action="store_true", help="try settings on training stars")
    parser.add_argument("--miles", type=Path, help="folder of MILES")
    parser.add_argument("--page", type=Path, help="write the page into this folder")
    parser.add_argument("--variants", default="", help="some of them, by semicolons")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    start = read_start(TransferConfig(start=str(options.kept / START)))
    survey, runs = read_survey(options.store, options.miles), Runs(options.work / "runs.jsonl")
    starts: Starts = dict.fromkeys(
        (AS_IS, SHIFTED, TAUGHT, SCRATCH, FIRST, *RECIPES, UNTAUGHT), start
    )
    for name, folder in HEADS.items():
        if (options.kept / folder / CARD).exists():
            starts[name] = read_start(TransferConfig(start=str(options.kept / folder)))
    variants = [one.strip() for one in options.variants.split(";") if one] or list(starts)
    if options.choose:
        choose(runs, survey, start, [v for v in variants if v in (SCRATCH, *RECIPES)])
    elif options.page:
        print(page(runs, survey, starts, variants, options.page))
    else:
        final(runs, survey, starts, variants)


if __name__ == "__main__":
    main()
