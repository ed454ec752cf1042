"""What the demo shows: how well a catalogue of a synthetic sky recovers the truth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table as Shown

from spectrolabe.catalogue import read_catalogue
from spectrolabe.labels import LABELS
from spectrolabe.models.files import read_card
from spectrolabe.spectra import Spectrum
from spectrolabe.spectra.store import open_store
from spectrolabe.surveys import read
from spectrolabe.validation import figures
from spectrolabe.validation.figures import short_name
from spectrolabe.validation.metrics import LabelMetrics
from spectrolabe.validation.page import (
    figure_block,
    heading,
    number,
    paragraph,
    table_block,
    write_page,
)
from spectrolabe.validation.truth import (
    OUTLIER,
    OUTLIERS,
    Compared,
    compare_with_truth,
    constant,
    pipeline_labels,
    read_truth,
    survey_metrics,
)

__all__ = ["show_results"]

OWN, PIPELINE, NAIVE = "Spectrolabe", "survey's pipeline", "no spectrum"
HEAD = ("answer", "stars", "bias", "1.4826 MAD", "RMSE", "outliers", "pull width")
Metrics = Mapping[str, Mapping[str, list[LabelMetrics]]]


def show_results(
    run: Path,
    catalogues: Mapping[str, Path],
    reference: str,
    times: Mapping[str, float],
    console: Console,
) -> Path:
    """Compare the catalogue of a run with the truth, write the page, and print the numbers.

    Parameters
    ----------
    run : Path
        Folder with ``catalogue.parquet``, ``store``, ``model`` and the sky ``test``.
    catalogues : mapping of str to Path
        The pipelines' label catalogues of the tested stars, by survey.
    reference : str
        The survey whose labels the model learnt.
    times : mapping of str to float
        Seconds of each stage.
    console : Console

    Returns
    -------
    Path
        The page.
    """
    card = read_card(run / "model")
    names = tuple(card["training_data"]["label_range"])
    catalogue = read_catalogue(run / "catalogue.parquet")
    truth = read_truth(run / "test" / "truth.parquet")
    found = compare_with_truth(catalogue, truth, names)
    stars = {name: found[name] for name in catalogues if name in found}
    middle = _training_medians(run / "store", names)
    metrics = {}
    for survey, one in stars.items():
        answers = {
            PIPELINE: pipeline_labels(one, catalogues[survey]),
            NAIVE: constant(one, middle),
        }
        found_here = survey_metrics(one, answers)
        metrics[survey] = {OWN: found_here.pop("catalogue"), **found_here}
    _print(metrics, console)
    blocks = [
        *_introduction(stars, truth, card, reference, times),
        *_numbers(metrics, names),
        *_drawn(stars, names),
        *_examples(run, stars, truth),
        *_caveats(stars, reference),
    ]
    return write_page(run / "page.html", "Spectrolabe on a synthetic sky", blocks)


def _training_medians(store: Path, names: tuple[str, ...]) -> dict[str, float]:
    labels = open_store(store).labels
    return {name: float(np.nanmedian(labels[name])) for name in names}


def _introduction(
    stars: Mapping[str, Compared],
    truth: Table,
    card: Mapping[str, object],
    reference: str,
    times: Mapping[str, float],
) -> list[str]:
    trained = card["training_data"]
    assert isinstance(trained, Mapping)
    rows = sum(len(one) for one in stars.values())
    tested = len({star for one in stars.values() for star in one.truth.star_id})
    spent = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in times.items())
    spent = f" Time so far: {spent}." if times else ""
    return [
        paragraph(
            f"One model was trained on {trained['spectra']} synthetic spectra of "
            f"{trained['stars']} stars in the files of {', '.join(stars)}. It then read the files "
            f"of {tested} other stars, of another sky drawn with another seed, none of which it "
            f"was trained on; the catalogue has {rows} rows, one for each star and survey."
            f" Everything below is of those rows.{spent}"
        ),
        paragraph(
            "The truth is known because the sky is made: ab initio LTE spectra, each survey's "
            "instrument, noise and faults, and files in its own format. Pipelines have the biases "
            f"and errors that the surveys' papers report. The model learnt the {reference} "
            f"pipeline's labels: each star's {reference} labels were put on the spectra that the "
            "other surveys took of it, matched by position. The truth was used for nothing but "
            "this page."
        ),
    ]


def _numbers(metrics: Metrics, names: tuple[str, ...]) -> list[str]:
    limits = ", ".join(
        f"{OUTLIERS.get(n, OUTLIER):g} {LABELS[n].unit} in {short_name(n)}" for n in names
    )
    blocks = [
        heading("How well the truth was recovered"),
        paragraph(
            "Differences are estimate minus truth. Bias is the median; 1.4826 MAD is the spread "
            "about it, one standard deviation of a normal; pull width is the same of difference / "
            f"stated error, 1 if errors are right. Outliers are off by more than {limits}. "
            f"“{NAIVE}” answers with the median of the training stars: what is known without "
            "looking. Rows that the catalogue flags as bad are left out; pipelines are judged on "
            "those of the same stars that pass the survey's own quality cut."
        ),
    ]
    for i, name in enumerate(names):
        rows, classes = [], []
        for survey, answers in metrics.items():
            for k, (answer, found) in enumerate(answers.items()):
                if found[i].stars or k == 0:
                    title = f"{survey}: {answer}" if k == 0 else f"– {answer}"
                    rows.append([title, *_cells(found[i])])
                    classes.append("own first" if k == 0 else "")
        blocks.append(table_block(HEAD, rows, figures.axis_name(name), classes=classes))
    return blocks


def _cells(row: LabelMetrics) -> list[str]:
    digits = 0 if row.unit == "K" else 3

    return [
        str(row.stars),
        number(row.bias, digits),
        number(row.mad, digits),
        number(row.rmse, digits),
        f"{100 * row.outlier_fraction:.1f} %" if row.stars else "–",
        number(row.pull_std, 2),
    ]


def _drawn(stars: Mapping[str, Compared], names: tuple[str, ...]) -> list[str]:
    pairs, numbers = figures.paired(stars)
    head = [
        "pair",
        "stars",
        *(f"{short_name(n)}: {w}" for n in names for w in ("median", "spread")),
    ]
    digits = [0 if LABELS[n].unit == "K" else 3 for n in names for _ in range(2)]
    rows = [
        [
            f"{one} − {other}",
            str(count),
            *(f"{v:.{d}f}".replace("-", "−") for v, d in zip(row, digits, strict=True)),
        ]
        for one, other, count, row in numbers
    ]
    blocks = []
    if "teff" in names and "logg" in names:
        blocks += [
            heading("Kiel diagrams"),
            figure_block(
                figures.kiel_diagrams(stars),
                "Temperature and gravity: above what is true, below what was found. Colour is the "
                "true metallicity.",
            ),
        ]
    blocks += [
        heading("Star by star"),
        figure_block(
            figures.one_to_one(stars),
            "Estimate against truth; grey crosses are flagged as bad by the catalogue.",
        ),
        heading("Signal to noise"),
        figure_block(
            figures.by_signal(stars),
            "Differences from the truth: points are stars, lines 1.4826 times the median in five "
            "bins of equal numbers of stars.",
        ),
    ]
    if rows:
        blocks += [
            heading("One star, two surveys"),
            figure_block(
                pairs,
                "Differences of the labels of stars that two surveys saw: median and the central "
                "68 per cent. The catalogue is homogeneous if they are about zero.",
            ),
            table_block(head, rows, "The same in numbers; spread is 1.4826 MAD."),
        ]
    return blocks


def _examples(run: Path, stars: Mapping[str, Compared], truth: Table) -> list[str]:
    """One spectrum of each survey: of the star that most of them saw."""
    votes: dict[str, int] = {}
    for one in stars.values():
        for star in one.truth.star_id[~one.bad]:
            votes[str(star)] = votes.get(str(star), 0) + 1
    spectra: dict[str, list[Spectrum]] = {}
    titles = {}
    for survey, one in stars.items():
        order = np.lexsort((-one.snr, np.array([-votes.get(str(s), 0) for s in one.truth.star_id])))
        i = int(order[0])
        spectra[survey] = _spectra_of(run, survey, str(one.truth.star_id[i]), truth)
        values = ", ".join(
            f"{short_name(n)} {_value(one.estimate[n][i], n)} ({_value(one.truth[n][i], n)})"
            for n in one.truth.names
        )
        titles[survey] = f"{survey}, S/N {one.snr[i]:.0f}: {values}"
    return [
        heading("Example spectra"),
        figure_block(
            figures.spectra_of_surveys(spectra, titles),
            "One star of each survey as its files have it, over its median flux, with what the "
            "model found and, in brackets, what is true.",
        ),
    ]


def _spectra_of(run: Path, survey: str, star: str, truth: Table) -> list[Spectrum]:
    rows = truth[(truth["survey"] == survey) & (truth["star_id"] == star)]
    rows = rows[rows["visit"] == np.min(rows["visit"])]
    wanted = {str(name) for name in rows["spectrum_id"]}
    paths = dict.fromkeys(str(path) for path in rows["path"])
    found = [s for path in paths for s in read(run / "test" / path) if s.spectrum_id in wanted]
    return [s for s in found if not s.meta.get("alternative")]


def _value(value: NDArray, name: str) -> str:
    text = f"{float(value):.0f}" if LABELS[name].unit == "K" else f"{float(value):.2f}"
    return text.replace("-", "−")


def _caveats(stars: Mapping[str, Compared], reference: str) -> list[str]:
    flagged = ", ".join(f"{survey} {int(one.bad.sum())}" for survey, one in stars.items())
    return [
        heading("What this is not"),
        paragraph(
            "A model trained for minutes on a few hundred stars is far from what the method can "
            "do, and synthetic spectra are easier than real ones: model and stars share one "
            "physics."
        ),
        paragraph(
            f"The model is on the {reference} pipeline's scale, with its biases, and cannot be "
            "better than it in bias; a scale tied to benchmark stars needs a correction after the "
            "fact. Stars that the reference does not see at all (fainter, hotter) were not trained "
            "on in any survey."
        ),
        paragraph(f"Rows flagged as bad and left out of the numbers: {flagged}."),
    ]


def _print(metrics: Metrics, console: Console) -> None:
    """Print a line for each survey and label: the catalogue, and beside it simpler answers."""
    table = Shown(title="estimate - truth, stars not trained on")
    columns = ("survey", "label", "stars", "bias", "1.4826 MAD", "RMSE", "outliers", "pull width")
    for name in (*columns, "pipeline: bias", "MAD", "no spectrum: MAD"):
        table.add_column(name, justify="left" if name in ("survey", "label") else "right")
    for survey, answers in metrics.items():
        for i, own in enumerate(answers[OWN]):
            pipeline, naive = answers[PIPELINE][i], answers[NAIVE][i]
            table.add_row(
                survey if i == 0 else "",
                f"{own.label} ({own.unit})",
                *_cells(own),
                *_cells(pipeline)[1:3],
                _cells(naive)[2],
                end_section=i == len(answers[OWN]) - 1,
            )
    console.print(table)
