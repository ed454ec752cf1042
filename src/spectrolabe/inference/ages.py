"""Ages of giants added to a catalogue, or to any table of labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.table import Column, Table
from numpy.typing import NDArray

from spectrolabe.catalogue import LabelFlag
from spectrolabe.errors import InputError
from spectrolabe.labels import Labels
from spectrolabe.models.age_files import load_ages
from spectrolabe.models.ages import NEEDED, AgeModel

__all__ = ["AGE_COLUMNS", "add_ages"]

AGE_COLUMNS: dict[str, tuple[str, str, str]] = {
    "age_giant": ("f4", "Gyr", "Age of a red giant by its labels, mean of its posterior"),
    "e_age_giant": ("f4", "Gyr", "1-sigma uncertainty of age_giant"),
    "age_giant_16": ("f4", "Gyr", "16 % quantile of the age"),
    "age_giant_50": ("f4", "Gyr", "Median of the age"),
    "age_giant_84": ("f4", "Gyr", "84 % quantile of the age"),
    "age_giant_flags": ("i4", "", "Bits of age_giant"),
}
"""Type, unit and description of the columns that are added."""


def add_ages(
    table: Table, model: AgeModel | str | Path = "default", *, scale: str | None = None
) -> Table:
    """Return a table with the columns of `AGE_COLUMNS` at its end.

    Parameters
    ----------
    table : Table
        A catalogue of Spectrolabe, or any table with columns ``teff``, ``logg``, ``fe_h``, and as
        many of the model's other labels as there are, each with its uncertainty: ``e_teff``, ...
    model : AgeModel, str or Path
        See `spectrolabe.models.age_files.load_ages`.
    scale : str, optional
        Age scale; see the card of the model.

    Returns
    -------
    Table
        Stars that are not like those trained on have NaN, with ``NO_INFORMATION``.

    Raises
    ------
    InputError
        If a column is lacking, or the table has ages of giants already.
    """
    if not isinstance(model, AgeModel):
        model = load_ages(model)
    model = model if scale is None else model.on(scale)
    _check(table, model)
    names = tuple(name for name in model.names if name in table.colnames)
    values, sigma = (
        np.stack([_numbers(table, f"{prefix}{name}") for name in names], axis=1)
        for prefix in ("", "e_")
    )
    ids = table["star_id"] if "star_id" in table.colnames else range(len(table))
    labels = Labels(names, values, sigma, np.array([str(one) for one in ids]))
    posterior = model.predict(labels)
    low, middle, high = posterior.quantiles([0.16, 0.5, 0.84])[:, :, 0]
    known = np.isfinite(posterior.mean[:, 0])
    found = {
        "age_giant": posterior.mean[:, 0],
        "e_age_giant": posterior.sigma[:, 0],
        "age_giant_16": low,
        "age_giant_50": middle,
        "age_giant_84": high,
        "age_giant_flags": np.where(known, 0, LabelFlag.NO_INFORMATION),
    }
    result = table.copy(copy_data=False)
    for name, (dtype, unit, description) in AGE_COLUMNS.items():
        result[name] = Column(
            np.asarray(found[name]).astype(dtype), unit=unit or None, description=description
        )
    return result


def _check(table: Table, model: AgeModel) -> None:
    has = set(table.colnames)
    if "age_giant" in has:
        raise InputError(
            "table of labels", expected="no ages of giants yet", found="a column age_giant"
        )
    present = [name for name in model.names if name in has]
    lacking = [name for name in NEEDED if name not in has]
    lacking += [f"e_{name}" for name in present if f"e_{name}" not in has]
    if lacking:
        raise InputError(
            "table of labels",
            expected=f"columns {', '.join(NEEDED)}, any of {', '.join(model.names)}, and their "
            "uncertainties e_<name>",
            found=f"no {', '.join(lacking)}",
        )


def _numbers(table: Table, name: str) -> NDArray:
    return np.asarray(np.ma.filled(np.ma.asarray(table[name]).astype(float), np.nan))
