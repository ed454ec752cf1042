"""Labels of a catalogue as they were before any calibration."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from astropy.table import Table

from spectrolabe.errors import InputError
from spectrolabe.labels import LABELS, Labels

__all__ = ["raw_labels"]


def raw_labels(table: Table, names: Sequence[str] | None = None, *, good: bool = True) -> Labels:
    """Return ``raw_<label>`` and ``raw_e_<label>`` of a catalogue.

    These and not ``<label>``, so that a calibration is never fitted to what is calibrated already.

    Parameters
    ----------
    table : Table
        As `spectrolabe.read_catalogue` returns it.
    names : sequence of str, optional
        Default: all labels of the catalogue.
    good : bool
        Leave out rows with ``flag_bad``.

    Raises
    ------
    InputError
        If a column is missing.
    """
    if names is None:
        names = [name for name in LABELS if f"raw_{name}" in table.colnames]
    needed = ["star_id", *(f"raw_{n}" for n in names), *(f"raw_e_{n}" for n in names)]
    needed += ["flag_bad"] if good else []
    lacking = [name for name in needed if name not in table.colnames]
    if lacking or not names:
        raise InputError(
            "catalogue",
            expected="star_id, raw_<label>, raw_e_<label> and flag_bad, as Spectrolabe writes them",
            found=", ".join(table.colnames[:12]) + " ...",
            fix=f"Missing: {', '.join(lacking) or 'any raw_<label>'}.",
        )
    rows = ~np.asarray(table["flag_bad"], dtype=bool) if good else np.ones(len(table), dtype=bool)
    values = np.column_stack([np.ma.filled(table[f"raw_{n}"], np.nan) for n in names])
    sigma = np.column_stack([np.ma.filled(table[f"raw_e_{n}"], np.nan) for n in names])
    star_id = np.asarray(table["star_id"], dtype=str)
    return Labels(tuple(names), values[rows], sigma[rows], star_id[rows])
