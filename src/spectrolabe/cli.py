"""The command: one verb per function. Whatever is heavy is imported inside."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from spectrolabe.config import DenoiserTrainConfig, EmulatorTrainConfig
    from spectrolabe.inference.run import RunReport
    from spectrolabe.spectra import Spectrum
    from spectrolabe.spectra.store import Store

__all__ = ["app", "main"]

MOST_ROWS = 20  # spectra of one file in the table of `read`
MOST_REASONS = 5  # reasons that are printed
INTERRUPTED = 130  # exit code after Ctrl-C
LONG = ("ingest", "synthesise", "train", "predict", "denoise", "fit", "simulate")
AGAIN = " Run the same command again to continue where it stopped."

app = typer.Typer(
    name="spectrolabe",
    help="One homogeneous catalogue of stellar labels from the spectra of any survey.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command; a mistake is one message and exit code 1, an interruption code 130."""
    from spectrolabe.errors import InputError
    from spectrolabe.guard import disk_is_full

    try:
        app()
    except InputError as error:
        _complain(str(error))
        sys.exit(1)
    except OSError as error:
        if error.filename is None:
            raise
        full = disk_is_full(error)
        fix = "Free some disk and run again." if full else "Check the path and its rights."
        _complain(f"{error.filename}: it cannot be read or written ({error.strerror}). {fix}")
        sys.exit(1)
    except SystemExit as leave:
        if leave.code == INTERRUPTED:
            _complain(f"interrupted.{AGAIN if sys.argv[1:2] and sys.argv[1] in LONG else ''}")
        raise


def _complain(message: str) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, soft_wrap=True)
    console.print(Text.assemble(("error: ", "bold red"), message))


def _leave_with(bad: Sequence[tuple[str, str]], what: str) -> None:
    """Print the first reasons and leave with exit code 1, if anything was bad."""
    for name, reason in bad[:MOST_REASONS]:
        _complain(reason if name in reason else f"{name}: {reason}")
    if bad:
        _complain(f"{len(bad)} {what}")
        raise typer.Exit(1)


def _say_passed(names: Sequence[str]) -> None:
    """Say which files of a folder were passed over: tables that hold no spectra."""
    from rich.console import Console

    if names:
        shown = ", ".join(names[:MOST_REASONS])
        more = f" and {len(names) - MOST_REASONS} more" if len(names) > MOST_REASONS else ""
        note = f"note: tables without spectra were passed over: {shown}{more}"
        Console(stderr=True, soft_wrap=True, highlight=False).print(note, markup=False)


def _finish(report: RunReport) -> None:
    """Say what a run over inputs did, and leave with exit code 1 if anything was bad."""
    from rich.console import Console

    rate = report.stars / max(report.seconds, 1e-3)
    Console(highlight=False, soft_wrap=True).print(
        f"{report.catalogue}: {report.stars} stars in {report.seconds:.1f} s ({rate:.1f} stars/s)"
        + (f"; {report.skipped} inputs were done before" if report.skipped else "")
    )
    _say_passed(report.passed)
    _leave_with(report.bad, f"without a result, listed in {report.catalogue}.bad.csv")


def _print_version(wanted: bool) -> None:
    if wanted:
        import spectrolabe

        typer.echo(f"spectrolabe {spectrolabe.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and leave."
        ),
    ] = False,
) -> None:
    pass


@app.command()
def read(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE", help="Files, folders, globs or stores.")
    ],
    survey: Annotated[
        str | None, typer.Option(help="Read as this survey instead of recognising it.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Also draw the spectra into this file.")
    ] = None,
) -> None:
    """Tell what a file holds: survey, frame, velocity, coverage, resolution, signal-to-noise.

    Example: [bold]spectrolabe read spec-55862-B6212_sp06-009.fits.gz --plot spectrum.png[/bold]
    """
    from rich.console import Console

    from spectrolabe.errors import InputError
    from spectrolabe.guard import check_output
    from spectrolabe.spectra.store import is_store, open_store
    from spectrolabe.surveys import UnrecognisedError, get
    from spectrolabe.surveys import read as read_file
    from spectrolabe.surveys.reading import expand

    console = Console(width=None if sys.stdout.isatty() else 120)
    stores = [name for name in files if is_store(name)]
    named = [name for name in files if name not in stores]
    if survey is not None:
        get(survey)
    if plot is not None:
        check_output(plot, "--plot")
    drawn: list[Spectrum] = []
    passed = []
    failed = False
    for name in stores:
        _show_store(console, open_store(name))
    for source in expand(named):
        try:
            spectra = read_file(source.path, survey)
        except InputError as error:
            if source.walked and isinstance(error, UnrecognisedError) and error.is_table:
                passed.append(source.name)
                continue
            _complain(str(error))
            failed = True
            continue
        _show_file(console, source.path, spectra)
        drawn += spectra
    _say_passed(passed)
    if plot is not None and drawn:
        from spectrolabe.spectra.plot import plot_spectra

        plot_spectra(drawn, plot)
        console.print(f"Drawn: {plot}", highlight=False)
    if failed:
        raise typer.Exit(1)


def _show_file(console: Console, path: Path, spectra: list[Spectrum]) -> None:
    import numpy as np
    from rich.table import Table

    from spectrolabe.surveys import get

    count = f"{len(spectra)} spectr{'um' if len(spectra) == 1 else 'a'}"
    stars = sorted({spectrum.star_id for spectrum in spectra})
    star = stars[0] if len(stars) == 1 else f"{len(stars)} stars"
    _head(console, f"{path.name}: {get(spectra[0].survey).title}, {count} of {star}")
    table = Table()
    table.add_column("spectrum", overflow="fold")
    table.add_column("frame")
    for name in ("rv km/s", "coverage Å", "pixels", "good %", "R", "S/N"):
        table.add_column(name, justify="right", no_wrap=True)
    for spectrum in spectra[:MOST_ROWS]:
        resolution = np.asarray(spectrum.resolution)
        low, high = resolution.min(), resolution.max()
        table.add_row(
            spectrum.spectrum_id,
            str(spectrum.frame),
            f"{spectrum.rv:+.2f}" if np.isfinite(spectrum.rv) else "–",
            f"{spectrum.wavelength[0]:.1f}–{spectrum.wavelength[-1]:.1f}",
            str(len(spectrum)),
            f"{100 * np.mean(spectrum.good):.1f}",
            f"{low:,.0f}" if high - low < 1 else f"{low:,.0f}–{high:,.0f}",
            f"{spectrum.snr:.1f}",
        )
    console.print(table)
    if len(spectra) > MOST_ROWS:
        console.print(f"and {len(spectra) - MOST_ROWS} more", highlight=False)


def _show_store(console: Console, store: Store) -> None:
    import numpy as np
    from rich.table import Table

    stars = len(set(store.column("star_id")))
    _head(console, f"{store.path}: a store of {len(store)} spectra of {stars} stars")
    table = Table()
    for name in ("survey", "split"):
        table.add_column(name)
    for name in ("spectra", "good labels", "median S/N", *store.names):
        table.add_column(name, justify="right")
    survey, split = store.column("survey"), store.column("split")
    good, snr = store.column("good"), store.column("snr")
    known = np.isfinite(store.labels.values)
    for pair in sorted(set(zip(survey, split, strict=True))):
        here = (survey == pair[0]) & (split == pair[1])
        counts = [str(n) for n in known[here].sum(axis=0)]
        middle = f"{np.median(snr[here]):.1f}"
        table.add_row(
            pair[0], pair[1] or "–", str(here.sum()), str(good[here].sum()), middle, *counts
        )
    console.print(table)


def _head(console: Console, text: str) -> None:
    from rich.text import Text

    console.print(Text(text, style="bold"), soft_wrap=True)


@app.command()
def ingest(
    survey: Annotated[str, typer.Argument(help="Name of the survey, for example lamost_lrs.")],
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH", help="Files, folders or globs of spectra.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the store.")],
    labels: Annotated[
        Path | None, typer.Option(metavar="TABLE", help="The survey's label catalogue.")
    ] = None,
    keep_unlabelled: Annotated[
        bool, typer.Option("--keep-unlabelled", help="Keep spectra without a row in the table.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes that read.")] = 1,
) -> None:
    """Read a survey's files and labels into one store; run again to continue where it stopped.

    What cannot be used is listed with its reason in bad.csv of the store; the exit code is then 1.

    Example: [bold]spectrolabe ingest lamost_lrs spectra/ --labels labels.csv --output dr10[/bold]
    """
    from rich.console import Console

    from spectrolabe.guard import check_output
    from spectrolabe.surveys.ingest import BAD
    from spectrolabe.surveys.ingest import ingest as run

    check_output(output, "--output", folder=True)
    report = run(survey, paths, output, labels, keep_unlabelled=keep_unlabelled, workers=workers)
    console = Console(highlight=False, soft_wrap=True)
    rate = report.files / max(report.seconds, 1e-3)
    console.print(
        f"{report.store}: {report.rows} spectra, {report.added} of them new, from {report.files} "
        f"files in {report.seconds:.1f} s ({rate:.0f} files/s)"
        + (f"; {report.skipped} files were done before" if report.skipped else "")
    )
    _say_passed(report.passed)
    _leave_with(report.bad, f"left out, listed in {report.store / BAD}")


@app.command()
def synthesise(
    config: Annotated[
        Path | None, typer.Argument(metavar="CONFIG", help="A TOML file, see configs/grid.toml.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="For example stars.count=50."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="GRID", help="File of the grid.")
    ] = Path("grid.safetensors"),
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE",
            help="Spectra of these stars: teff, logg, fe_h, v_micro and any <x>_fe.",
        ),
    ] = None,
    range: Annotated[
        tuple[float, float] | None, typer.Option(metavar="LOW HIGH", help="Vacuum Angstrom.")
    ] = None,
    step: Annotated[float | None, typer.Option(help="Angstrom between pixels; 0.05.")] = None,
    differential: Annotated[
        bool, typer.Option("--differential", help="Also the change with each of 34 labels.")
    ] = False,
    atmospheres: Annotated[str | None, typer.Option(help="marcs or atlas9.")] = None,
    lines: Annotated[
        str | None,
        typer.Option(help="full, for real stars, or reference, that of the checks (default)."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that compute.")] = 1,
) -> None:
    """Compute LTE spectra of stars, drawn or given, into one grid; run again to continue.

    Stars without a spectrum are listed with the reason in GRID.bad.csv; the exit code is then 1.
    Below 4250 K the missing TiO and H2O matter (flag COOL_NO_TIO), above 7500 K non-LTE (HOT).

    Example: [bold]spectrolabe synthesise --labels stars.csv --range 3900 9000 -o stars.grid[/bold]
    """
    from rich.console import Console

    from spectrolabe.config import GridConfig, load_config
    from spectrolabe.config.loading import validated
    from spectrolabe.errors import InputError
    from spectrolabe.guard import check_output

    check_output(output, "--output")
    given = {
        "ranges": [range] if range else None,
        "step": step,
        "atmospheres": atmospheres,
        "lines": lines,
        "differential": ["all"] if differential else None,
    }
    options = {key: value for key, value in given.items() if value is not None}
    if config is None and labels is None:
        raise InputError(
            "spectrolabe synthesise", expected="CONFIG or --labels TABLE", found="neither"
        )
    if config is None:
        grid = GridConfig(name="given")
    else:
        grid = load_config(config, overrides or (), GridConfig)
    tree = grid.model_dump(exclude_unset=True)
    tree["spectra"] = {**tree.get("spectra", {}), **options}
    grid = validated(tree, "options", GridConfig)

    from spectrolabe.synthesis.run import BAD, synthesise_grid

    report = synthesise_grid(labels or grid, output, spectra=grid.spectra, workers=workers)
    console = Console(highlight=False, soft_wrap=True)
    rate = 60.0 * report.added / max(report.seconds, 1e-3)
    console.print(
        f"{report.grid}: {report.stars} spectra, {report.added} of them new in "
        f"{report.seconds:.1f} s ({rate:.1f} stars/min)"
    )
    for note in report.notes:
        console.print(f"note: {note}", markup=False)
    reasons = [(one.star_id, f"row {one.row} ({one.star_id}): {one.reason}") for one in report.bad]
    _leave_with(reasons, f"stars without a spectrum, listed in {report.grid}{BAD}")


@app.command()
def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML file, see configs/.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="For example training.epochs=50."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="RUN", help="Folder of the run.")
    ] = Path("runs/model"),
    only: Annotated[
        int | None,
        typer.Option(metavar="FOLD", help="Fit this fold alone; see data.folds."),
    ] = None,
) -> None:
    """Train a model on a store, or an emulator on grids; run again to continue where it stopped.

    The run holds the weights, a card that says what they are, and the metrics of every epoch.
    A configuration with a section \\[grids] is that of an emulator, and one with \\[sky] and no
    \\[data] that of a model that learns from a synthetic sky.

    Example: [bold]spectrolabe train configs/lamost-dr10.toml data.store=dr10 -o runs/dr10[/bold]
    """
    from rich.console import Console

    from spectrolabe.config import (
        DenoiserTrainConfig,
        EmulatorTrainConfig,
        SkyTrainConfig,
        load_training,
    )
    from spectrolabe.errors import InputError
    from spectrolabe.guard import check_output
    from spectrolabe.models.files import read_card

    check_output(output, "--output", folder=True)
    settings = load_training(config, overrides or ())
    if isinstance(settings, EmulatorTrainConfig):
        if only is not None:
            raise InputError("--only", expected="a configuration with data.folds", found="no folds")
        _train_emulator(settings, output)
        return
    if isinstance(settings, DenoiserTrainConfig):
        _train_denoiser(settings, output)
        return
    if isinstance(settings, SkyTrainConfig):
        from spectrolabe.training.unified import train_on_sky

        folder = train_on_sky(settings, output)
    elif settings.twins is not None:
        from spectrolabe.training.twin_run import train_twins

        folder = train_twins(settings, output)
    else:
        from spectrolabe.training.trainer import train as run

        folder = run(settings, output, only=only)
        if only is not None:
            return
    card = read_card(folder)
    errors = ", ".join(f"{name} {value:.3g}" for name, value in card["unseen_mad"].items())
    console = Console(highlight=False, soft_wrap=True, quiet=_another_process())
    console.print(f"{folder}: trained on {card['training_data']['spectra']} spectra")
    console.print(f"1.4826 MAD on stars not trained on: {errors or 'no star was kept out'}")


def _train_denoiser(config: DenoiserTrainConfig, output: Path) -> None:
    from rich.console import Console

    from spectrolabe.models.denoiser import load_denoiser
    from spectrolabe.training.denoiser import train_denoiser

    card = load_denoiser(train_denoiser(config, output)).card
    console = Console(highlight=False, soft_wrap=True, quiet=_another_process())
    console.print(f"{output}: trained on {card['training_data']['spectra']} spectra")
    for survey, found in card["unseen"].items():
        console.print(
            f"{survey}: error of flux over noise {found['error_over_noise']:.2f} (median) on "
            f"{found['stars']} stars not trained on"
        )


def _train_emulator(config: EmulatorTrainConfig, output: Path) -> None:
    from rich.console import Console

    from spectrolabe.models.emulator import load_emulator
    from spectrolabe.training.emulator import train_emulator

    folder = train_emulator(config, output)
    card = load_emulator(folder).card
    data, unseen = card["training_data"], card.get("unseen")
    console = Console(highlight=False, soft_wrap=True, quiet=_another_process())
    console.print(
        f"{folder}: trained on {data['stars']} spectra and {data['differential_spectra']} "
        "differential spectra"
    )
    if unseen:
        console.print(
            f"mean absolute error of flux on {data['stars_kept_apart']} stars not trained on: "
            f"{100 * unseen['mae']:.3f} % ({100 * unseen['mae_of_basis']:.3f} % of it the basis)"
        )


def _another_process() -> bool:
    """One process of several (`accelerate launch`) speaks."""
    return os.environ.get("RANK", "0") != "0"


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help="A run, a folder under weights/, or 'default'.")],
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT", help="Files, folders, globs or stores.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="CATALOGUE", help=".parquet or .fits")
    ],
    survey: Annotated[
        str | None, typer.Option(help="Read files as this survey instead of recognising them.")
    ] = None,
    together: Annotated[
        str, typer.Option(help="One row per star of each 'file', or per 'star' of all inputs.")
    ] = "file",
    visits: Annotated[
        bool, typer.Option("--visits", help="One row per visit instead of combined spectra.")
    ] = False,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes that read files; all work if --scheduler local.")
    ] = 1,
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="local|ADDRESS|FILE", help="Share the work among Dask processes."),
    ] = None,
    device: Annotated[str, typer.Option(help="Where the model runs: cpu, cuda.")] = "cpu",
    neighbours: Annotated[
        int, typer.Option(min=0, help="List so many training stars like each star, in a table.")
    ] = 0,
    photometry: Annotated[
        Path | None,
        typer.Option(metavar="TABLE", help="Add distances: Ks, extinction, parallaxes by star."),
    ] = None,
) -> None:
    """Predict labels with calibrated uncertainties and flags; run again to continue.

    What gives no result is listed with its reason beside the catalogue; the exit code is then 1.

    Example: [bold]spectrolabe predict default spectra/ --output catalogue.parquet[/bold]
    """
    from spectrolabe.inference.predict import predict as run

    report = run(
        model,
        inputs,
        output,
        survey=survey,
        together=together,
        visits=visits,
        workers=workers,
        device=device,
        command=" ".join(["spectrolabe", *sys.argv[1:]]),
        neighbours=neighbours,
        photometry=photometry,
        scheduler=scheduler,
    )
    _finish(report)


@app.command()
def denoise(
    model: Annotated[str, typer.Argument(help="A run, a folder under weights/, or 'default'.")],
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT", help="Files, folders or globs.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder.")],
    survey: Annotated[
        str | None, typer.Option(help="Read files as this survey instead of recognising them.")
    ] = None,
    jointly: Annotated[
        bool, typer.Option("--jointly", help="Visits of a star in one file inform each other.")
    ] = False,
    device: Annotated[str, typer.Option(help="Where the model runs: cpu, cuda.")] = "cpu",
) -> None:
    """Write spectra without their noise, in the survey's format; run again to continue.

    What is written is a product of a model and says so: `fit` will not take it.
    What gives no result is listed with its reason in bad.csv; the exit code is then 1.

    Example: [bold]spectrolabe denoise default visits/ --output denoised[/bold]
    """
    from rich.console import Console

    from spectrolabe.guard import check_output
    from spectrolabe.inference.denoise import denoise as run

    check_output(output, "--output", folder=True)
    report = run(model, inputs, output, survey=survey, jointly=jointly, device=device)
    rate = report.spectra / max(report.seconds, 1e-3)
    Console(highlight=False, soft_wrap=True).print(
        f"{report.folder}: {report.spectra} spectra in {report.written} files, "
        f"{report.seconds:.1f} s ({rate:.1f} spectra/s)"
        + (f"; {report.skipped} files were done before" if report.skipped else "")
    )
    _say_passed(report.passed)
    _leave_with(report.bad, f"without a result, listed in {report.folder}/bad.csv")


@app.command()
def fit(
    emulator: Annotated[
        str, typer.Argument(help="A run, a folder under weights/, several by commas, or 'default'.")
    ],
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT", help="Files, folders, globs or stores.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="CATALOGUE", help=".parquet or .fits")
    ],
    labels: Annotated[
        str | None, typer.Option(metavar="LABELS", help="Fit these: teff,logg,fe_h,mg_fe; all.")
    ] = None,
    method: Annotated[
        str, typer.Option(help="lm; cma searches for other minima, mcmc samples the posterior.")
    ] = "lm",
    start: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL|TABLE", help="Start at what an encoder or a table of stars says."
        ),
    ] = None,
    prior: Annotated[
        list[str] | None,
        typer.Option(metavar="PRIOR", help="weak (default), none, and LABEL=MEAN:SIGMA; repeat."),
    ] = None,
    fix: Annotated[
        list[str] | None,
        typer.Option(metavar="LABEL=VALUE", help="Hold a label at a value; repeat."),
    ] = None,
    continuum: Annotated[
        int | None,
        typer.Option(min=0, help="Order of the continuum of each arm; by its width if not given."),
    ] = None,
    v_broad: Annotated[
        bool | None,
        typer.Option(
            "--v-broad/--no-v-broad",
            help="Fit the broadening of the star; by default if R is 5000 or more.",
        ),
    ] = None,
    model_error: Annotated[
        str,
        typer.Option(
            metavar="ERROR", help="Of the models, relative: at the continuum, and more in lines."
        ),
    ] = "0.005,0.05",
    calibration: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Put labels on the scale of anchors; raw ones are kept."),
    ] = None,
    spectra: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write the model beside the data, a FITS file a star."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Draw model, residuals and lines, a PNG a star."),
    ] = None,
    survey: Annotated[
        str | None, typer.Option(help="Read files as this survey instead of recognising them.")
    ] = None,
    together: Annotated[
        str, typer.Option(help="One row per star of each 'file', or per 'star' of all inputs.")
    ] = "file",
    visits: Annotated[
        bool, typer.Option("--visits", help="One row per visit instead of combined spectra.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of cma and mcmc.")] = 0,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes that read files; all work if --scheduler local.")
    ] = 1,
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="local|ADDRESS|FILE", help="Share the work among Dask processes."),
    ] = None,
) -> None:
    """Fit whole spectra with an emulator: labels, velocity, broadening; run again to continue.

    What gives no result is listed with its reason beside the catalogue; the exit code is then 1.

    Example: [bold]spectrolabe fit default spectra/ --output fits.parquet --plot figures[/bold]
    """
    from spectrolabe.guard import check_output
    from spectrolabe.inference.fit_options import (
        parse_fixed,
        parse_labels,
        parse_model_error,
        parse_priors,
    )
    from spectrolabe.inference.fit_run import fit_files

    for folder, option in ((spectra, "--spectra"), (plot, "--plot")):
        if folder is not None:
            check_output(folder, option, folder=True)
    report = fit_files(
        emulator,
        inputs,
        output,
        labels=parse_labels(labels),
        method=method,
        start=start,
        priors=parse_priors(prior or ()),
        fixed=parse_fixed(fix or ()),
        continuum=continuum,
        v_broad=v_broad,
        model_error=parse_model_error(model_error),
        seed=seed,
        calibration=calibration,
        spectra=spectra,
        plot=plot,
        survey=survey,
        together=together,
        visits=visits,
        workers=workers,
        command=" ".join(["spectrolabe", *sys.argv[1:]]),
        scheduler=scheduler,
    )
    _finish(report)


@app.command()
def simulate(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML file, see configs/.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="For example population.stars=500."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="SKY", help="Folder of the synthetic sky.")
    ] = Path("sky"),
    workers: Annotated[int, typer.Option(min=1, help="Processes that compute and write.")] = 1,
) -> None:
    """Make a synthetic sky: surveys' native files and label catalogues, and the truth.

    Run again to continue where it stopped. Only truth.parquet knows what is true of the stars.

    Example: [bold]spectrolabe simulate configs/sky.toml population.stars=500 -o sky[/bold]
    """
    from rich.console import Console

    from spectrolabe.config import load_config
    from spectrolabe.config.sky import SkyConfig
    from spectrolabe.guard import check_output
    from spectrolabe.sky.simulate import TRUTH
    from spectrolabe.sky.simulate import simulate as run

    check_output(output, "--output", folder=True)
    report = run(load_config(config, overrides or (), SkyConfig), output, workers=workers)
    console = Console(highlight=False, soft_wrap=True)
    rate = report.written / max(report.seconds, 1e-3)
    console.print(
        f"{report.folder}: {report.stars} stars, {report.written} of them new, "
        f"in {report.seconds:.1f} s ({rate:.1f} stars/s)"
    )
    counts = ", ".join(f"{survey} {count}" for survey, count in report.spectra.items())
    console.print(f"spectra: {counts}; the truth is in {report.folder / TRUTH}")


@app.command()
def homogenise(
    context: typer.Context,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="Catalogue to be corrected.")],
    references: Annotated[
        list[str] | None,
        typer.Argument(metavar="REFERENCE", help="Whose scale it is to be; several are united."),
    ] = None,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="CATALOGUE", help=".parquet, .fits, .csv, .hats"),
    ] = Path("homogenised.parquet"),
    labels: Annotated[
        str | None, typer.Option(metavar="LABELS", help="teff,logg,...; by default what all have.")
    ] = None,
    method: Annotated[
        str, typer.Option(help="polynomial, spline, symbolic (a formula) or xgboost.")
    ] = "polynomial",
    order: Annotated[int, typer.Option(min=1, max=8, help="Of the polynomial.")] = 4,
    smooth: Annotated[
        float, typer.Option(min=0.0, help="Average xgboost over so many spreads of the inputs.")
    ] = 0.0,
    true_scale: Annotated[
        bool,
        typer.Option("--true-scale", help="Take off trends alone; not to predict the reference."),
    ] = False,
    inputs: Annotated[
        str, typer.Option(metavar="COLUMNS", help="What corrections are functions of.")
    ] = "teff,logg,fe_h",
    id: Annotated[
        str, typer.Option("--id", metavar="COLUMN[,COLUMN]", help="Of the star, in each table.")
    ] = "star_id",
    columns: Annotated[
        str | None, typer.Option(metavar="NAME=COLUMN,...", help="What columns are called.")
    ] = None,
    reference_columns: Annotated[
        str | None, typer.Option(metavar="NAME=COLUMN,...", help="The same of the references.")
    ] = None,
    bad: Annotated[
        str,
        typer.Option(metavar="COLUMN[,COLUMN]", help="Not 0: nothing is learnt from that row."),
    ] = "",
    sky: Annotated[
        float, typer.Option(min=0.0, metavar="ARCSEC", help="Match ra and dec within so much.")
    ] = 0.0,
    epochs: Annotated[
        str, typer.Option(metavar="YEAR[,YEAR]", help="Of the positions, in each table.")
    ] = "2000",
    apply: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Apply a correction learnt before.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="PAGE", help="Trends, coverage and a comparison of methods: .html"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the parts of the shared stars.")] = 0,
) -> None:
    """Put the labels of a catalogue on the scale of another, by the stars that both have.

    All rows and columns stay; new ones are homogenised_<label>, its uncertainty, coverage and
    flags. The correction is written beside the catalogue.

    Example: [bold]spectrolabe homogenise lamost.csv apogee.fits --id obsid,apogee_id[/bold]
    """
    from rich.console import Console

    from spectrolabe.errors import InputError
    from spectrolabe.guard import check_output
    from spectrolabe.homogenise.command import homogenise as run
    from spectrolabe.homogenise.command import parse_columns
    from spectrolabe.homogenise.run import Matching
    from spectrolabe.homogenise.shown import summary

    if report is not None:
        check_output(report, "--report")
    if report is not None and apply is not None:
        raise InputError(
            "--report",
            expected="a correction that is learnt in the same run",
            found="--apply",
            fix="The run that learnt it had the page.",
        )
    if apply is not None:
        _nothing_else(context, "--apply", LEARNING)
    one, other = _each(id)
    try:
        years = [float(year) for year in _each(epochs)]
    except ValueError as error:
        raise InputError("--epochs", expected="a year, or two", found=repr(epochs)) from error
    found = run(
        target,
        references or [],
        output,
        labels=None if labels is None else [name.strip() for name in labels.split(",")],
        given=apply,
        columns=parse_columns(columns, "--columns"),
        reference_columns=parse_columns(reference_columns, "--reference-columns"),
        bad=_each(bad),
        inputs=[name.strip() for name in inputs.split(",") if name.strip()],
        matching=Matching(one, other, sky, *years),
        method=method,
        order=order,
        smooth=smooth,
        true_scale=true_scale,
        seed=seed,
        command=" ".join(["spectrolabe", *sys.argv[1:]]),
    )
    console = Console(highlight=False, soft_wrap=True)
    console.print(summary(found))
    rate = found.counts["rows"] / max(found.counts["seconds"], 1e-3)
    console.print(
        f"{found.catalogue}: {found.counts['rows']:,} rows in {found.seconds:.1f} s "
        f"({rate:,.0f} rows/s); the correction is in {found.file}"
    )
    if report is not None:
        from spectrolabe.validation.homogenised_page import write_homogenised_page

        console.print(f"report: {write_homogenised_page(found, report)}")


@app.command()
def validate(
    catalogues: Annotated[
        list[Path], typer.Argument(metavar="CATALOGUE", help="Of predict or fit; one or several.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="REPORT", help="Page to write: .html")
    ] = Path("validation.html"),
    truth: Annotated[
        Path | None,
        typer.Option(metavar="TABLE", help="True labels by star_id or spectrum_id."),
    ] = None,
    clusters: Annotated[
        Path | None, typer.Option(metavar="TABLE", help="Open clusters: star_id and cluster.")
    ] = None,
    binaries: Annotated[
        Path | None,
        typer.Option(metavar="TABLE", help="Wide binaries: star_id_1 and star_id_2."),
    ] = None,
    spectra: Annotated[
        list[Path] | None,
        typer.Option(metavar="FOLDER", help="Where spectra of the worst cases are looked for."),
    ] = None,
) -> None:
    """Say how far catalogues can be believed: a page of figures, and its numbers as JSON.

    Without a table beside it a catalogue is compared with itself: stars with several rows, and
    stars that several surveys have.

    Example: [bold]spectrolabe validate catalogue.parquet --truth sky/truth.parquet[/bold]
    """
    from rich.console import Console

    from spectrolabe.guard import check_output
    from spectrolabe.validation.validate import validate as run

    check_output(output, "--output")
    report = run(
        catalogues,
        output,
        truth=truth,
        clusters=clusters,
        binaries=binaries,
        spectra=spectra or (),
        command=" ".join(["spectrolabe", *sys.argv[1:]]),
    )
    counts = report.counts
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"{report.rows} rows of {report.stars} stars: {counts['pass']} numbers pass, "
        f"{counts['warn']} warn, {counts['fail']} fail, {counts['few']} are of too few stars"
    )
    console.print(f"report: {report.page}, numbers: {report.numbers}")


@app.command()
def explore(
    catalogue: Annotated[Path, typer.Argument(metavar="CATALOGUE", help="Of predict or fit.")],
    spectra: Annotated[
        list[Path] | None,
        typer.Option(metavar="FOLDER", help="Where files of spectra, or of fits, are looked for."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="PAGE", help="Write a page to pass on, .html, and leave."
        ),
    ] = None,
    stars: Annotated[
        int, typer.Option(min=0, help="With --output: so many have spectra, by S/N.")
    ] = 30,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 0,
    open: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Look at a catalogue in the browser: click a star to see spectrum, model and posterior.

    The page is served to this machine alone, until Ctrl-C.

    Example: [bold]spectrolabe explore catalogue.parquet --spectra spectra/ --open[/bold]
    """
    from rich.console import Console

    from spectrolabe.explorer import Explored, serve, write_page

    console = Console(highlight=False, soft_wrap=True)
    if output is not None:
        page, held = write_page(Explored(catalogue, spectra or ()), output, stars=stars)
        size = page.stat().st_size / 1e6
        console.print(f"{page}: the spectra of {held} stars are in it, {size:.1f} MB")
        return

    def ready(url: str) -> None:
        console.print(f"{catalogue}: {url} (Ctrl-C ends it)")
        if open:
            import webbrowser

            webbrowser.open(url)

    serve(catalogue, spectra or (), port=port, ready=ready)


LEARNING = (
    *("method", "order", "smooth", "true_scale", "inputs", "seed", "sky", "epochs"),
    *("reference_columns", "bad", "id"),
)


def _nothing_else(context: typer.Context, option: str, names: tuple[str, ...]) -> None:
    """See that options are not given that would be without effect."""
    from spectrolabe.errors import InputError

    given = [
        f"--{name.replace('_', '-')}"
        for name in names
        if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
    ]
    if given:
        raise InputError(
            option,
            expected="no options of learning: the correction says how it was learnt",
            found=", ".join(given),
        )


def _each(text: str) -> tuple[str, str]:
    """One name for both tables, or one for each."""
    one, comma, other = text.partition(",")
    return one.strip(), (other if comma else one).strip()
