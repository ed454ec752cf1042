"""A model that learns from the visits of a survey: labels by few stars, noise by all of them.

First it learns the labels of the stars that have some, from single visits. What it then says of the
deeper spectrum of every other star is what that star teaches the final model, which starts anew
and learns at once the labels and the flux of deeper spectra from the visits of all stars.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from spectrolabe import __version__
from spectrolabe.config import TrainConfig
from spectrolabe.errors import InputError
from spectrolabe.labels import Labels
from spectrolabe.models.checkpoint import save_estimator
from spectrolabe.models.denoiser import AS_STATED, Denoiser, save_denoiser
from spectrolabe.models.encoder import Encoder
from spectrolabe.models.estimator import Estimator, encode
from spectrolabe.models.files import read_card
from spectrolabe.models.pixels import collate, row_of
from spectrolabe.models.uncertainty import Coverage, Recalibration
from spectrolabe.spectra.store import Store
from spectrolabe.training.data import open_stores, place_of, used_rows, widened
from spectrolabe.training.flux_errors import flux_errors
from spectrolabe.training.loop import begin, learn
from spectrolabe.training.transfer import Start, continued, read_start
from spectrolabe.training.twin_task import Twins, TwinTask
from spectrolabe.training.twins import Pair, pairs_of

__all__ = [
    "DENOISER_FOLDER",
    "TEACHER",
    "Visits",
    "calibrated",
    "first_alone",
    "learnt_from",
    "read_visits",
    "train_twins",
]

DENOISER_FOLDER, TEACHER = "denoiser", "teacher"  # of a run
REFERENCES = 3000  # visits kept for the coverage
BATCH = 32


class Visits(NamedTuple):
    """The visits of a store, to learn from or to calibrate by.

    Parameters
    ----------
    store : Store
    pairs : list of Pair
    labels : Labels
        Of the star of each visit, as many as pairs, in the order of the model; NaN where unknown.
    """

    store: Store
    pairs: list[Pair]
    labels: Labels

    def take(self, use: NDArray) -> Visits:
        """Return some of them."""
        kept = [pair for pair, wanted in zip(self.pairs, use, strict=True) if wanted]
        return Visits(self.store, kept, self.labels.take(use))

    @property
    def rows(self) -> NDArray:
        """Rows of the store, shape (P,)."""
        return np.array([pair.visit for pair in self.pairs], dtype=int)

    @property
    def labelled(self) -> NDArray:
        """Whose star has a label, shape (P,), bool."""
        return np.asarray(np.isfinite(self.labels.values).any(axis=1))


def read_visits(config: TrainConfig, start: Start) -> tuple[Visits, Visits]:
    """Return the visits to learn from and, of other stars, those to calibrate by.

    Raises
    ------
    InputError
        If there are several stores, or no visit.
    """
    stores = open_stores(config.data)
    if len(stores) > 1:
        raise InputError(
            "data.store", expected="one store of visits", found=f"{len(stores)}", fix="Name one."
        )
    (store,) = stores
    # the quality cut is one of labels: stars without any have visits, too
    pairs = pairs_of(store, used_rows(store, config.data.model_copy(update={"quality_cut": False})))
    if not pairs:
        raise InputError(
            store.path,
            expected="single visits",
            found=f"none among {len(store)} spectra",
            fix="Ingest the survey's visits, not only their combinations.",
        )
    rows = np.array([pair.visit for pair in pairs])
    known = widened(store.labels, config.data.labels)
    labels = widened(known, start.estimator.scale.names).take(rows)
    if config.data.quality_cut:
        values = np.where(store.column("good")[rows, None], labels.values, np.nan)
        labels = Labels(labels.names, values, labels.sigma, labels.star_id)
    every = Visits(store, pairs, labels)
    place = np.array([place_of(star, config.training.seed) for star in labels.star_id])
    kept = place < config.data.calibration
    return every.take(~kept), every.take(kept)


def train_twins(config: TrainConfig, output: str | Path, *, progress: bool = True) -> Path:
    """Train a model and a denoiser on the visits of a store; an interrupted call continues.

    Parameters
    ----------
    config : TrainConfig
        With ``twins`` and ``transfer.start``.
    output : str or Path
        The run: a model as of `spectrolabe.training.trainer.train`, and ``denoiser/`` in it.
    progress : bool
        Show progress bars.

    Returns
    -------
    Path
        The run.

    Raises
    ------
    InputError
        If there is no start, or no visit, or the run was begun with another configuration.
    """
    twins, start = config.twins, read_start(config.transfer)
    if twins is None or start is None:
        raise InputError(
            config.name,
            expected="sections [twins] and [transfer] with a start",
            found="no [twins]" if twins is None else "no transfer.start",
        )
    config = continued(config, start)
    output = begin(output, config)
    train, calibration = read_visits(config, start)
    teacher: Encoder | None = None
    if twins.teacher_epochs and train.labelled.any():
        first = first_alone(config)
        labelled = train.take(train.labelled)
        teacher = learnt_from(first, labelled, start, output / TEACHER, progress=progress).encoder
    folder = output / "twins"
    learnt = learnt_from(config, train, start, folder, teacher=teacher, progress=progress)
    estimator = calibrated(config, learnt.encoder, start, train, calibration)
    save_estimator(estimator, output)
    _save_denoiser(config, learnt, estimator, output, calibration)
    return output


def first_alone(config: TrainConfig) -> TrainConfig:
    """Return the configuration by which the labels of the stars that have some are learnt first."""
    assert config.twins is not None
    alone = config.twins.model_copy(update={"flux": 0.0})
    settings = config.training.model_copy(update={"epochs": config.twins.teacher_epochs})
    return config.model_copy(update={"twins": alone, "training": settings})


def learnt_from(
    config: TrainConfig,
    visits: Visits,
    start: Start,
    folder: Path,
    *,
    teacher: Encoder | None = None,
    progress: bool = True,
) -> Twins:
    """Return what has learnt from visits; see `TwinTask`."""
    scaled = start.estimator.scale.scale(visits.labels.values)
    task = TwinTask(config, visits.store, visits.pairs, scaled, start, teacher)
    title = f"{config.name} {folder.name}"
    return cast(Twins, learn(task, config.training, folder, title=title, progress=progress))


def calibrated(
    config: TrainConfig, encoder: Encoder, start: Start, train: Visits, calibration: Visits
) -> Estimator:
    """Return the estimator of an encoder that has learnt from visits.

    Labels that no calibration star has keep the recalibration of the start.

    Parameters
    ----------
    config : TrainConfig
    encoder : Encoder
    start : Start
    train, calibration : Visits
        What it has learnt from, and visits of other stars.
    """
    scale, old = start.estimator.scale, start.estimator.recalibration
    mean, sigma, embedding = _said(encoder.eval(), calibration)
    residual = scale.scale(calibration.labels.values) - mean
    rows = calibration.rows
    snr, survey = (calibration.store.column(name)[rows] for name in ("snr", "survey"))
    recalibration = Recalibration.fit(residual, sigma, snr, survey, old)
    rng = np.random.default_rng(config.training.seed)
    few = np.sort(rng.permutation(len(train.pairs))[:REFERENCES])
    chosen = train.take(np.isin(np.arange(len(train.pairs)), few))
    inside = Coverage.fit(_said(encoder, chosen)[2])
    farther = inside.farther(embedding) if len(embedding) else 1.0
    coverage = Coverage(inside.reference, inside.width, inside.limit * farther, chosen.labels)
    known = np.isfinite(residual).any(axis=0)
    error = np.full(len(known), np.nan)
    error[known] = 1.4826 * np.nanmedian(np.abs(residual[:, known]), axis=0) * scale.width[known]
    data = dict(start.estimator.card["training_data"])
    real = sorted({*data.get("real_surveys", ()), *np.unique(survey).tolist()})
    stars = np.unique(train.labels.star_id)
    update = {
        "store": str(config.data.store),
        "spectra": len(train.pairs),
        "stars": len(stars),
        "stars_with_labels": len(np.unique(train.labels.star_id[train.labelled])),
        "real_surveys": real,
    }
    card = {
        **start.estimator.card,
        "name": config.name,
        "spectrolabe_version": __version__,
        "encoder": config.encoder.model_dump(),
        "configuration": config.model_dump(mode="json"),
        "training_data": {**data, **update},
        "start": start.name,
        "start_sha256": start.sha256,
        "recalibrated_on": f"{len(rows)} visits of stars that were not trained on",
        "unseen_mad": {
            name: float(x) for name, x, use in zip(scale.names, error, known, strict=True) if use
        },
    }
    return Estimator(encoder, scale, recalibration, coverage, card)


def _said(encoder: Encoder, visits: Visits) -> tuple[NDArray, NDArray, NDArray]:
    """Scaled mean and sigma, (P, L), and embedding, (P, D), of visits."""
    parts = []
    for begin_ in range(0, len(visits.pairs), BATCH):
        rows = visits.rows[begin_ : begin_ + BATCH]
        parts.append(encode(encoder, collate([[row_of(visits.store[int(i)])] for i in rows])))
    mean, covariance, embedding = (np.concatenate(part) for part in zip(*parts, strict=True))
    return mean, np.sqrt(np.diagonal(covariance, axis1=1, axis2=2)), embedding


def _save_denoiser(
    config: TrainConfig, learnt: Twins, estimator: Estimator, output: Path, visits: Visits
) -> None:
    assert config.twins is not None
    card = {
        "name": config.name,
        "spectrolabe_version": __version__,
        "encoder": "..",
        "encoder_sha256": read_card(output)["weights_sha256"],
        "channels": config.twins.channels,
        "training_data": {"spectra": estimator.card["training_data"]["spectra"]},
    }
    made = Denoiser(estimator, learnt.decoder, {"": AS_STATED}, card)
    errors, unseen = flux_errors(made, visits.store, visits.pairs)
    folder = output / DENOISER_FOLDER
    save_denoiser(Denoiser(estimator, learnt.decoder, errors, {**card, "unseen": unseen}), folder)
