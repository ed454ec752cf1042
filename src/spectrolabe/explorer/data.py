"""What the page of a catalogue asks for: columns, names, and all that is known of one star."""

from __future__ import annotations

import base64
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Column
from numpy.typing import NDArray

from spectrolabe.catalogue import ResultFlag, read_catalogue, read_row
from spectrolabe.catalogue.schema import BAD, IDENTITY, LABEL_FLAGS, RESULT_FLAGS
from spectrolabe.errors import InputError
from spectrolabe.inference.fit_products import Products, models_of_row
from spectrolabe.inference.row_models import Modelled, Models, noise
from spectrolabe.labels import LABELS
from spectrolabe.spectra import Spectrum
from spectrolabe.surveys.finding import Files, spectra_of_row

__all__ = ["Explored", "packed"]

NEEDED = ("star_id", "spectrum_id", "survey", "file")
KEPT = 32  # stars that are remembered with spectra and models
EXACT = 2**24  # integers up to which float32 is exact
NOTHING = {
    False: "No folder was given in which to look for it: start with --spectra FOLDER, the folder "
    "that the spectra are in.",
    True: "It is not in the folders of --spectra.",
}


def packed(values: NDArray) -> str:
    """Return numbers as the page reads them: float32, little-endian, in base64."""
    return base64.b64encode(np.asarray(values, dtype="<f4").tobytes()).decode()


class Explored:
    """A catalogue, and the spectra of its stars.

    Parameters
    ----------
    path : str or Path
        Catalogue of `predict` or `fit`: Parquet, FITS or HATS.
    spectra : sequence of str or Path
        Folders with the files that its rows name, or with those that ``fit --spectra`` wrote; all
        folders below are looked through.
    emulators : str
        Those of the model spectra, as `spectrolabe fit` takes them.

    Raises
    ------
    InputError
        If the catalogue cannot be read, has no row, or lacks a column that says which star a row
        is of; or a folder is missing.
    """

    def __init__(
        self,
        path: str | Path,
        spectra: Sequence[str | Path] = (),
        emulators: str = "default",
    ) -> None:
        self.path = Path(path)
        self.table = read_catalogue(self.path, without=("rho_",))
        self._check(spectra)
        known = set(self.names) - set(IDENTITY)  # the velocity of a fit is no label of its star
        self.labels = [n for n in LABELS if n in known and f"e_{n}" in known]
        self.files = Files(spectra)
        self.products = Products(self.files)
        self.models = Models(emulators)
        self._lock = threading.Lock()  # a model takes all processors
        self._observed = lru_cache(KEPT)(self._find)
        self._modelled = lru_cache(KEPT)(self._model)

    def _check(self, folders: Sequence[str | Path]) -> None:
        lacking = [name for name in NEEDED if name not in self.names]
        if lacking:
            raise InputError(
                self.path,
                expected=f"columns {', '.join(NEEDED)}",
                found=f"no {', '.join(lacking)}",
                fix="Give what `spectrolabe predict` or `spectrolabe fit` wrote.",
            )
        if not len(self):
            raise InputError(self.path, expected="at least one row", found="none")
        for folder in folders:
            if not Path(folder).is_dir():
                raise InputError(folder, expected="a folder with spectra", found="none")

    def __len__(self) -> int:
        return len(self.table)

    @property
    def names(self) -> list[str]:
        """All columns but the correlations."""
        return list(self.table.colnames)

    @property
    def columns(self) -> list[str]:
        """Columns of numbers that can be drawn."""
        return [name for name in self.names if _drawable(self.table[name])]

    def describe(self) -> dict[str, Any]:
        """Return what the page is built from: columns, flags, labels, provenance; of JSON types."""
        return {
            "name": self.path.name,
            "rows": len(self),
            "columns": [self._described(name) for name in self.columns],
            "labels": self.labels,
            "flags": [
                {"bit": int(flag), "name": str(flag.name), "text": text, "bad": bool(flag & BAD)}
                for flag, text in RESULT_FLAGS.items()
            ],
            "command": str(self.table.meta["provenance"].get("command", "")),
        }

    def _described(self, name: str) -> dict[str, str]:
        column = self.table[name]
        unit = str(column.unit or "")
        return {"name": name, "unit": unit, "text": str(column.description or "")}

    def column(self, name: str) -> bytes:
        """Return a column as float32, little-endian; NaN where there is no value."""
        return _numbers(self.table[name]).astype("<f4").tobytes()

    def ids(self) -> list[str]:
        """Return the name of the star of every row."""
        return [str(name).strip() for name in self.table["star_id"]]

    def star(self, row: int) -> dict[str, Any]:
        """Return what is known of a star but its model: labels, posterior, flags, spectra.

        Parameters
        ----------
        row : int
            From 0.

        Returns
        -------
        dict
            Of JSON types; arrays as `packed`. ``note`` says why there is no spectrum.

        Raises
        ------
        InputError
            If the file of the catalogue has been removed since.
        """
        here = self.table[row]
        found, note = self._observed(row)
        told = {name: self._text(row, name) for name in (*NEEDED, "messages")}
        numbers = {name: _number(here[name]) for name in self.columns if self._identity(name)}
        flags = int(here["result_flags"]) if "result_flags" in self.names else 0
        return {
            **told,
            "row": row,
            "numbers": numbers,
            "flags": [f"{f.name}: {text}" for f, text in RESULT_FLAGS.items() if f & flags],
            "bad": bool(ResultFlag(flags & int(BAD))),
            "labels": [self._label(row, name) for name in self.labels],
            "rho": packed(self.correlations(row)),
            "spectra": [_observed(one) for one in found],
            "note": note,
        }

    def _identity(self, name: str) -> bool:
        """Whether a column says something of a star that is no label."""
        bare = name.removeprefix("raw_").removeprefix("e_").removesuffix("_flags")
        return bare not in self.labels and name not in ("result_flags", "flag_bad", "flag_warn")

    def _text(self, row: int, name: str) -> str:
        return str(self.table[name][row]).strip() if name in self.names else ""

    def _label(self, row: int, name: str) -> dict[str, Any]:
        here = self.table[row]
        bits = int(here[f"{name}_flags"]) if f"{name}_flags" in self.names else 0
        return {
            "name": name,
            "value": _number(here[name]),
            "sigma": _number(here[f"e_{name}"]),
            "unit": LABELS[name].unit,
            "flags": [text for flag, text in LABEL_FLAGS.items() if flag & bits],
        }

    def correlations(self, row: int) -> NDArray:
        """Return the correlations of a star's errors, shape (L, L); NaN where none is stated."""
        found = read_row(self.path, row, "rho_")
        rho = np.full((len(self.labels), len(self.labels)), np.nan)
        np.fill_diagonal(rho, 1.0)
        for i, one in enumerate(self.labels):
            for j, other in enumerate(self.labels):
                value = found.get(f"rho_{one}_{other}")
                if value is not None:
                    rho[i, j] = rho[j, i] = value
        return rho

    def model(self, row: int) -> dict[str, Any]:
        """Return the model spectra of a star and the lines that drive its labels.

        Parameters
        ----------
        row : int

        Returns
        -------
        dict
            Of JSON types; arrays as `packed`. ``note`` says why there is no model, or where it is
            from.
        """
        return self._modelled(row)

    def _find(self, row: int) -> tuple[list[Spectrum], str]:
        file, ids = self._text(row, "file"), self._text(row, "spectrum_id")
        paths = self.files.paths(file)
        if not paths:
            folders = bool(self.files.folders)
            return [], f"No file {file.replace(';', ' or ')} was found. {NOTHING[folders]}"
        found, reason = spectra_of_row(paths, ids)
        return found, f"{paths[0]}: {reason}" if reason else ""

    def _model(self, row: int) -> dict[str, Any]:
        spectra, _ = self._observed(row)
        names = [self._text(row, name) for name in NEEDED]
        values = self._values(row)
        with self._lock:
            return _shown(models_of_row(self.products, self.models, names, spectra, values))

    def _values(self, row: int) -> dict[str, float]:
        """The labels of a model spectrum; a fit knows nothing of what calibration did to them."""
        fitted = "emulators" in self.table.meta["provenance"]
        values = {}
        for name in self.labels:
            raw = f"raw_{name}"
            values[name] = self.table[raw if fitted and raw in self.names else name][row]
        return {name: float(np.ma.filled(value, np.nan)) for name, value in values.items()}


def _drawable(column: Column) -> bool:
    if column.ndim != 1 or column.dtype.kind not in "fiub":
        return False
    return column.dtype.itemsize < 8 or column.dtype.kind == "f"


def _numbers(column: Column) -> NDArray:
    return np.asarray(np.ma.filled(np.ma.asarray(column).astype(np.float64), np.nan))


def _number(value: Any) -> float | None:
    number = float(np.ma.filled(value, np.nan))
    return number if np.isfinite(number) else None


def _observed(one: Spectrum) -> dict[str, Any]:
    """A spectrum as its file has it; the shift that it states is taken out by the page."""
    return {
        "title": f"{one.survey} {one.spectrum_id}",
        "frame": str(one.frame),
        "shift": _number(0.0 if str(one.frame) == "rest" else one.rv),
        "wavelength": packed(one.wavelength),
        "flux": packed(one.flux),
        "sigma": packed(noise(one.ivar)),
    }


def _shown(done: Modelled) -> dict[str, Any]:
    arrays = ("wavelength", "flux", "sigma", "model", "error", "used")
    return {
        "spectra": [
            {"title": one.title, **{name: packed(getattr(one, name)) for name in arrays}}
            for one in done.spectra
        ],
        "lines": done.lines,
        "chi2": done.chi2,
        "note": done.note,
    }
