"""What a file says of its spectra in keywords, and what ``spectra.toml`` beside it adds.

Files that cannot be changed, such as those of a stellar library, get what they lack from a file
``spectra.toml`` in their folder. It counts for every file there; a table with the name of a file
adds to it for that file alone::

    MEDIUM = "air"
    FRAME = "rest"
    RV = "unknown"
    WAVEUNIT = "Angstrom"
    FWHM = 2.5
    SNR = 100

    ["MILES_res2.50_star_m0004V.fits.gz"]
    STAR_ID = "HD 4"

A link to a file is enough: the ``spectra.toml`` beside the link is the one that counts.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectrolabe.errors import InputError, unknown_name
from spectrolabe.guard import read_text

__all__ = ["EXAMPLES", "SIDECAR", "Keywords"]

SIDECAR = "spectra.toml"

EXAMPLES: Mapping[str, tuple[str | float, str]] = {
    "MEDIUM": ("air", "air or vacuum, the medium of the wavelengths"),
    "FRAME": ("barycentric", "rest, barycentric or observed, the frame of the wavelengths"),
    "RV": (-12.5, "the radial velocity in km/s, positive = receding, or 'unknown'"),
    "R": (5000, "the resolution wavelength / FWHM, or FWHM in Å instead"),
    "FWHM": (2.5, "the width of the line spread function in Å"),
    "SNR": (100, "the signal-to-noise a pixel to assume, for there are no errors"),
    "WAVEUNIT": ("Angstrom", "the unit of the wavelengths"),
    "STAR_ID": ("HD 4614", "the name of the star"),
}
"""Every keyword, with an example and its meaning."""


@dataclass(frozen=True)
class Keywords:
    """The keywords of one spectrum.

    Parameters
    ----------
    path : Path
        The file, for messages.
    values : Mapping of str to object
        Value by name; names are those of `EXAMPLES`.
    called : Mapping of str to str
        How the format of the file calls a keyword, with an example, where that differs.
    """

    path: Path
    values: Mapping[str, Any]
    called: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path, *sources: Mapping, called: Mapping[str, str] | None = None) -> Keywords:
        """Collect the keywords of a file and of ``spectra.toml`` in its folder.

        Parameters
        ----------
        path : Path
            The spectrum file; a symbolic link counts as a file of the folder that it is in.
        *sources : Mapping
            Headers or metadata in which to look, the most specific first; case does not matter.

        Raises
        ------
        InputError
            If ``spectra.toml`` cannot be read, has an unknown keyword, or contradicts the file.
        """
        values: dict[str, Any] = {}
        for source in sources:
            keys = {str(key).upper(): key for key in source}
            for name in EXAMPLES:
                if name in keys and name not in values:
                    values[name] = _scalar(path, name, source[keys[name]])
        for name, value in _sidecar(path).items():
            _scalar(path.parent / SIDECAR, name, value)
            if name in values and str(values[name]).strip().lower() != str(value).lower():
                raise InputError(
                    path,
                    expected=f"one value of {name}",
                    found=f"{values[name]!r} in the file and {value!r} in {SIDECAR}",
                    fix="Remove the wrong one.",
                )
            values.setdefault(name, value)
        return cls(path, values, called or {})

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def choice(self, name: str, allowed: Collection[str]) -> str:
        """Return a keyword whose value is one of a few words."""
        value = str(self._value(name)).strip().lower()
        if value not in allowed:
            raise unknown_name(f"{self.path}, {name}", value, allowed, kind=f"value of {name}")
        return value

    def text(self, name: str) -> str:
        """Return a keyword as text."""
        return str(self._value(name)).strip()

    def number(self, name: str, *, unknown: bool = False) -> float:
        """Return a keyword as a number; with ``unknown`` that word gives NaN."""
        value = self._value(name)
        if unknown and str(value).strip().lower() in ("unknown", "nan"):
            return np.nan
        try:
            return float(value)
        except (TypeError, ValueError):
            raise InputError(
                f"{self.path}, {name}", expected=EXAMPLES[name][1], found=repr(value)
            ) from None

    def resolution(self, wavelength: NDArray) -> float | NDArray:
        """Return R, or wavelength / FWHM, shape (M,), when FWHM is given and R is not."""
        if "R" in self or "FWHM" not in self:
            return self.number("R")
        with np.errstate(divide="ignore"):
            return np.asarray(wavelength) / np.float64(self.number("FWHM"))

    def _value(self, name: str) -> Any:
        if name in self.values:
            return self.values[name]
        example, meaning = EXAMPLES[name]
        quoted = f'"{example}"' if isinstance(example, str) else example
        own = self.called.get(
            name,
            f"{name} = {example!r} in a FITS header or the metadata of ECSV and Parquet, "
            f"a first line '# {name} = {example}' in CSV",
        )
        raise InputError(
            self.path,
            expected=f"the keyword {name}: {meaning}",
            found="none",
            fix=f"Write {own}, or a line {name} = {quoted} in {SIDECAR} beside the file.",
        )


def _scalar(path: Path, name: str, value: Any) -> Any:
    """Text or a number: what is nested may be endless when it is written out."""
    single = isinstance(value, np.ndarray) and value.ndim == 0
    if not single and not isinstance(value, str | int | float | np.generic):
        raise InputError(
            f"{path}, {name}", expected="text or a number", found=f"a {type(value).__name__}"
        )
    return value


def _sidecar(path: Path) -> dict[str, Any]:
    """Keywords for all files of the folder, replaced by those of a table with the file's name."""
    sidecar = path.parent / SIDECAR
    if not sidecar.is_file():
        return {}
    try:
        content = tomllib.loads(read_text(sidecar, "TOML"))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(sidecar, expected="TOML", found=str(error)) from error
    values = {key: value for key, value in content.items() if not isinstance(value, dict)}
    own = content.get(path.name, {})
    values.update(own if isinstance(own, dict) else {})
    for name in values:
        if name.upper() not in EXAMPLES:
            raise unknown_name(sidecar, name, EXAMPLES, kind="keyword")
    return {name.upper(): value for name, value in values.items()}
