"""The card of a model: what it eats, what it was trained on, and its errors on other stars."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectrolabe import __version__
from spectrolabe.config import DataConfig, TrainConfig
from spectrolabe.labels import Labels, LabelScale
from spectrolabe.training.data import Sample
from spectrolabe.training.offsets import MeasuredOffsets, in_common, number_of_reference
from spectrolabe.training.transfer import Start

__all__ = ["make_card"]

RANGE = (0.001, 0.999)  # quantiles of the training labels


def make_card(
    config: TrainConfig,
    scale: LabelScale,
    train: Sample,
    residual: NDArray,
    start: Start | None = None,
    kept: tuple[str, ...] = (),
    measured: MeasuredOffsets | None = None,
    sky: bool = False,
) -> dict[str, Any]:
    """Return the card of a model.

    Parameters
    ----------
    config : TrainConfig
    scale : LabelScale
    train : Sample
        What the weights were fitted to.
    residual : ndarray, shape (N, L)
        Scaled, of stars that they were not fitted to.
    start : Start, optional
        What the weights were before.
    kept : tuple of str
        Labels whose recalibration is that of the start.
    measured : MeasuredOffsets, optional
        Of the catalogues, scaled.
    sky : bool
        They learnt from a simulated sky as well, so that nothing of the start is forgotten.
    """
    spread = _spread(residual) * scale.width
    cross = "cross-fitting" if config.data.folds else "a split of its own"
    card = {
        "name": config.name,
        "spectrolabe_version": __version__,
        "encoder": config.encoder.model_dump(),
        "configuration": config.model_dump(
            mode="json", exclude={"data": {"store"}, "transfer": {"start"}}
        ),
        "training_data": _training_data(config.data, train, start, sky),
        "input": "native pixels (vacuum Angstrom, at rest by the survey's own velocity), ivar, R",
        "recalibrated_on": f"{len(residual)} spectra of stars that the predicting weights had not "
        f"seen ({cross})",
        "unseen_mad": {
            name: float(value)
            for name, value in zip(scale.names, spread, strict=True)
            if np.isfinite(value)
        },
    }
    if start is not None:
        card["transfer"] = _transfer(config, scale, start, kept)
    if measured is not None:
        card["offsets"] = _offsets(config.data, scale, train, measured)
    return card


def _spread(residual: NDArray) -> NDArray:
    """1.4826 MAD of each column about its median; NaN where nothing is known."""
    known = [column[np.isfinite(column)] for column in residual.T]
    mad = [np.median(np.abs(k - np.median(k))) if len(k) else np.nan for k in known]
    return 1.4826 * np.array(mad)


def _training_data(
    config: DataConfig, train: Sample, start: Start | None, sky: bool
) -> dict[str, Any]:
    edges = [train.arrays(i)[0][[0, -1]] for i in range(len(train))]
    resolution = [np.median(train.arrays(i)[3]) for i in range(len(train))]
    identifiers = sorted(train.column("spectrum_id"))
    ranges, spread = _labels(train.labels, start)
    found: dict[str, Any] = {
        "store": ", ".join(Path(store).name for store in config.stores),
        "spectra": len(identifiers),
        "stars": len(np.unique(train.labels.star_id)),
        "surveys": sorted(set(train.column("survey").tolist())),
        "spectrum_ids_sha256": hashlib.sha256("\n".join(identifiers).encode()).hexdigest(),
        "wavelength_range": [float(min(e[0] for e in edges)), float(max(e[1] for e in edges))],
        "resolution_range": [float(min(resolution)), float(max(resolution))],
        "snr_range": [float(v) for v in np.quantile(train.column("snr"), [0.01, 0.99])],
        "label_range": ranges,
        "label_spread": spread,
    }
    old = {} if start is None else start.estimator.card["training_data"]
    if "wavelength_ranges" in old:  # beyond them, nothing was ever learnt
        found["wavelength_ranges"] = old["wavelength_ranges"]
        found["resolution_range"] = old["resolution_range"]
    if "left_out" in old:  # of surveys of which no real spectrum was learnt from
        found["left_out"] = old["left_out"]
        found["real_surveys"] = sorted({*found["surveys"], *old.get("real_surveys", ())})
    if sky:
        found["surveys"] = sorted({*found["surveys"], *old["surveys"]})
        low, high = zip(found["snr_range"], old["snr_range"], strict=True)
        found["snr_range"] = [min(low), max(high)]
    return found


def _labels(labels: Labels, start: Start | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Range and standard deviation of the training labels, widened to what a start was taught."""
    ranges: dict[str, Any] = {}
    spread: dict[str, Any] = {}
    old = {} if start is None else start.estimator.card["training_data"]
    for name in labels.names:
        known = labels[name][np.isfinite(labels[name])]
        found = np.quantile(known, RANGE).tolist() if len(known) else [np.inf, -np.inf]
        width = float(np.std(known.clip(found[0], found[1]))) if len(known) else 0.0
        if old:
            low, high = old["label_range"][name]
            found = [min(found[0], low), max(found[1], high)]
            width = max(width, old["label_spread"][name])
        ranges[name], spread[name] = found, width
    return ranges, spread


def _transfer(
    config: TrainConfig, scale: LabelScale, start: Start, kept: tuple[str, ...]
) -> dict[str, Any]:
    return {
        "start": start.name,
        "start_sha256": start.sha256,
        "start_trained_on": start.estimator.card["training_data"],
        "recipe": config.transfer.recipe,
        "labels_not_taught": [name for name in scale.names if name not in config.data.labels],
        "recalibration_of_the_start": list(kept),
    }


def _offsets(
    config: DataConfig, scale: LabelScale, train: Sample, measured: MeasuredOffsets
) -> dict[str, Any]:
    """By catalogue and label; None where there is nothing to tell it by."""
    reference = number_of_reference(config)
    common = in_common(train, reference)
    number = lambda x: float(x) if np.isfinite(x) else None  # noqa: E731
    of = {
        Path(store).name: {
            name: {
                "offset": number(measured.value[c, j] * scale.width[j]),
                "sigma": number(measured.sigma[c, j] * scale.width[j]),
                "stars_in_common": int(common[c, j]),
            }
            for j, name in enumerate(scale.names)
            if name in config.labels
        }
        for c, store in enumerate(config.stores)
        if c != reference
    }
    return {"reference": config.reference, "catalogue_minus_reference": of}
