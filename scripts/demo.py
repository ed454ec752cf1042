"""The whole product on a synthetic sky: simulate, ingest, train, predict, compare with the truth.

    python scripts/demo.py [--run FOLDER] [--stars N] [--workers N] [KEY=VALUE ...]

Called by `make demo`. KEY=VALUE are settings of the training. An interrupted call continues where
it stopped. The stars that are tested are of a sky of their own, which the training never sees.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from spectrolabe.catalogue import read_catalogue
from spectrolabe.config import load_config
from spectrolabe.config.sky import SkyConfig, SurveysConfig
from spectrolabe.models.files import read_card
from spectrolabe.surveys.transfer import SurveyData, transfer_labels
from spectrolabe.validation.demo_page import show_results

ROOT = Path(__file__).parents[1]
REFERENCE = "apogee"
CATALOGUES = {
    "apogee": "allStar-dr17-synspec_rev1.fits",
    "galah": "galah_dr4_allstar_240705.fits",
    "desi": "mwsall-pix-iron.fits",
    "gaia_rvs": "astrophysical_parameters.fits",
    "lamost_lrs": "dr10_v2.0_LRS_stellar.fits",
    "sdss_boss": "ssppOut-dr12.fits",
}
SPECTRA = {  # beside the catalogues
    "apogee": "stars",
    "galah": "*/*.fits",
    "desi": "*/*/coadd-*.fits",
    "gaia_rvs": "RVS_RAW_*.fits",
    "lamost_lrs": "*/spec-*.fits.gz",
    "sdss_boss": "*/spec-*.fits",
}
STAGES = 6

console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 130)


class Demo:
    """One run of the demo: where its files are, and how long its stages took."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.run: Path = options.run
        self.workers: int = options.workers
        self.sky_config, self.model_config = options.sky, options.model
        self.settings: list[str] = options.settings
        sky = load_config(self.sky_config, (), SkyConfig)
        self.stars = {
            "train": options.stars or sky.population.stars,
            "test": options.test_stars or max(20, (options.stars or sky.population.stars) // 3),
        }
        self.seeds = {"train": sky.seed, "test": sky.seed + 1}
        self.spectra: str = options.spectra or sky.spectra
        self.surveys = [n for n in SurveysConfig.model_fields if getattr(sky.surveys, n).share > 0]
        self.times: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, what: str) -> Iterator[None]:
        """Say what begins, and remember how long it took."""
        console.print(f"\n[bold]{len(self.times) + 1}/{STAGES} {name}[/bold]: {what}")
        begin, before = time.monotonic(), _processor_seconds()
        yield
        self.times[name] = time.monotonic() - begin
        used = _processor_seconds() - before
        console.print(f"{name}: {self.times[name]:.0f} s, {used:.0f} s of processors", style="dim")

    def spectrolabe(self, *words: object, some_bad: bool = False) -> None:
        """Run a command; with ``some_bad``, exit code 1 says that some files were not used."""
        text = [str(word) for word in words]
        console.print("$ spectrolabe " + " ".join(text), style="cyan", markup=False)
        command = Path(sys.executable).with_name("spectrolabe")
        done = subprocess.run([command, *text], check=False)
        if done.returncode == 1 and some_bad:
            console.print("going on with the good ones", style="yellow")
        elif done.returncode:
            raise SystemExit(done.returncode)

    def simulate(self) -> None:
        """Make the two skies."""
        for sky in ("train", "test"):
            self.spectrolabe(
                "simulate", self.sky_config, f"seed={self.seeds[sky]}",
                f"population.stars={self.stars[sky]}", f"spectra='{self.spectra}'",
                "--output", self.run / sky, "--workers", self.workers,
            )  # fmt: skip

    def catalogue_of(self, sky: str, survey: str) -> Path:
        """The label catalogue of a survey's pipeline."""
        return self.run / sky / survey / CATALOGUES[survey]

    def ingest(self) -> None:
        """Each survey's files with its own catalogue."""
        for survey in self.surveys:
            self.spectrolabe(
                "ingest", survey, self.run / "train" / survey,
                "--labels", self.catalogue_of("train", survey),
                "--output", self.run / "stores" / survey, "--workers", self.workers,
                some_bad=True,
            )  # fmt: skip

    def transfer(self) -> None:
        """One store with the labels of one pipeline."""
        store = self.run / "store"
        if store.is_dir():
            console.print(f"{store} is there")
            return
        part = self.run / "store.part"
        shutil.rmtree(part, ignore_errors=True)
        data = {
            survey: SurveyData(self.run / "stores" / survey, self.catalogue_of("train", survey))
            for survey in self.surveys
        }
        labels = load_config(self.model_config, self.settings).data.labels
        report = transfer_labels(data, REFERENCE, labels, part)
        part.rename(store)
        for survey, count in report.spectra.items():
            console.print(
                f"{survey}: {count} spectra of {report.stars[survey]} stars with {REFERENCE} "
                f"labels; {report.unknown[survey]} of others left out"
            )

    def train(self) -> None:
        """One model for all surveys."""
        self.spectrolabe(
            "train", self.model_config, f"data.store={self.run / 'store'}", *self.settings,
            "--output", self.run / "model",
        )  # fmt: skip

    @property
    def catalogue(self) -> Path:
        """What comes out."""
        return self.run / "catalogue.parquet"

    def predict(self) -> None:
        """The files of the test sky, of which the model knows nothing."""
        if self.catalogue.exists():
            made_by = read_catalogue(self.catalogue).meta["provenance"].get("model_sha256")
            if made_by == read_card(self.run / "model")["weights_sha256"]:
                console.print(f"{self.catalogue} is there")
                return
            self.catalogue.unlink()
        spectra = [self.run / "test" / name / SPECTRA[name] for name in self.surveys]
        self.spectrolabe(
            "predict", self.run / "model", *spectra,
            "--together", "star", "--output", self.catalogue, "--workers", self.workers,
            some_bad=True,
        )  # fmt: skip

    def everything(self) -> None:
        """All stages."""
        self.run.mkdir(parents=True, exist_ok=True)
        with self.stage("simulate", "two skies, one to train on and one to be tested on"):
            self.simulate()
        with self.stage("ingest", "each survey's files with the catalogue of its pipeline"):
            self.ingest()
        with self.stage("one scale", f"{REFERENCE} labels on all spectra of its stars"):
            self.transfer()
        with self.stage("train", "one model for all surveys"):
            self.train()
        with self.stage("predict", "the files of stars that the model has never seen"):
            self.predict()
        with self.stage("compare", "with the truth"):
            page = show_results(
                self.run,
                {name: self.catalogue_of("test", name) for name in self.surveys},
                REFERENCE,
                self.times,
                console,
            )
        console.print(
            f"\ncatalogue: {self.catalogue.resolve()}\npage:      {page.resolve()}\n"
            f"{sum(self.times.values()) / 60:.1f} minutes"
        )


def _processor_seconds() -> float:
    """Of this process and of those it has waited for."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def main(words: Sequence[str] | None = None) -> None:
    """Read the command line and run the demo."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="where results go")
    parser.add_argument("--stars", type=int, help="stars to train on; a third more are tested")
    parser.add_argument("--test-stars", type=int, help="stars to test on")
    parser.add_argument("--spectra", help="library of intrinsic spectra instead of the usual one")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--sky", type=Path, default=ROOT / "configs" / "demo-sky.toml")
    parser.add_argument("--model", type=Path, default=ROOT / "configs" / "demo-model.toml")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="of the training")
    Demo(parser.parse_args(words)).everything()


if __name__ == "__main__":
    main()
