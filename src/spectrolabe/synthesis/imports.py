"""Grids made with other codes, in the units and names of this one: one function for each code.

Files give spectra, `Labels` say of which stars, and nothing is guessed from magnitudes. A continuum
more than a factor of ten from a black body of the star's temperature is an error: another unit.
"""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spectrolabe.errors import InputError
from spectrolabe.guard import blaming, check_unpacked, unpacked
from spectrolabe.guard.fits import check_fits
from spectrolabe.guard.text import check_table
from spectrolabe.labels import Labels
from spectrolabe.spectra.wavelength import air_to_vacuum
from spectrolabe.synthesis.constants import BOLTZMANN, LIGHT, PLANCK
from spectrolabe.synthesis.grid import Grid

__all__ = ["import_korg", "import_payne_zero", "import_phoenix", "import_turbospectrum"]

SAME_PIXEL = 1e-7  # relative difference of two wavelengths of one grid
FACTOR = 10.0  # between a continuum and the black body of its star, at most
SHALLOW = 0.5  # flux above which a ratio of rounded numbers gives the continuum well
ENVELOPE_BIN = 50.0  # Å
ENVELOPE_QUANTILE = 0.98
ARRAY_NAMES = {"Teff": "teff", "logg": "logg", "FeH": "fe_h", "vmic": "v_micro"}

Paths = Sequence[str | Path]
Medium = Literal["air", "vacuum"]


class _Read(NamedTuple):
    """What a file holds, in vacuum Angstrom and erg/s/cm2/Angstrom; flux is normalised."""

    wavelength: NDArray
    flux: NDArray
    continuum: NDArray


def import_turbospectrum(
    files: Paths | str | Path,
    labels: Labels | None = None,
    *,
    medium: Medium = "air",
    provenance: Mapping[str, Any] | None = None,
) -> Grid:
    """Return the grid of spectra that Turbospectrum wrote.

    Parameters
    ----------
    files : sequence of paths, or path
        Text files of ``bsyn_lu``, one a star: wavelength, normalised flux, flux in
        erg/s/cm2/Angstrom (further columns are ignored). Or one ``.npz`` that collects many, with
        ``wave_air``, ``flux_u16`` and ``flux_scale``, ``cont`` at ``wcont``, ``labels`` and
        ``label_names`` (``Teff logg FeH vmic`` and ``Mg_Fe`` ...).
    labels : Labels
        A row a file, in their order; not for the ``.npz``, which has its own.
    medium : {"air", "vacuum"}
        The scale of the wavelengths: that of the line list; the lists of Turbospectrum are in air.
    provenance : mapping, optional
        What else to say about the grid: atmospheres, line list, version.

    Raises
    ------
    InputError
        If a file is missing or another, pixels differ between files, or labels do not match.
    """
    about = {"engine": "Turbospectrum", **(provenance or {})}
    if isinstance(files, str | Path) and Path(files).suffix == ".npz":
        return _collected(Path(files), about)

    def read(path: Path) -> _Read:
        wavelength, flux, absolute = _text_columns(path, "wavelength, normalised flux, flux")
        good = flux > SHALLOW if (flux > SHALLOW).any() else flux > 0
        continuum = np.interp(wavelength, wavelength[good], absolute[good] / flux[good])
        return _Read(_vacuum(wavelength, medium), flux, continuum)

    return _grid(_listed(files), labels, read, about)


def import_korg(
    files: Paths | str | Path,
    labels: Labels,
    *,
    rectified: bool,
    provenance: Mapping[str, Any] | None = None,
) -> Grid:
    """Return the grid of spectra that Korg.jl computed.

    Parameters
    ----------
    files : sequence of paths, or path
        ``.npz`` (of NPZ.jl) or ``.csv``, one a star, with ``wavelengths`` (vacuum Angstrom),
        ``flux`` and ``cntm`` as Korg names them.
    labels : Labels
        A row a file, in their order. Korg's ``m_H``, ``alpha_H`` and [X/H] are for the caller to
        turn into ``fe_h`` and ``<x>_fe``.
    rectified : bool
        True for the flux of ``Korg.synth``, which is divided by the continuum unless told
        otherwise; False for that of ``Korg.synthesize``, which has the unit of ``cntm``.
    provenance : mapping, optional
        What else to say about the grid.

    Raises
    ------
    InputError
        As `import_turbospectrum`.
    """

    def read(path: Path) -> _Read:
        columns = _named_arrays(path, ("wavelengths", "flux", "cntm"))
        wavelength, flux, continuum = columns
        return _Read(wavelength, flux if rectified else flux / continuum, continuum)

    return _grid(_listed(files), labels, read, {"engine": "Korg", **(provenance or {})})


def import_payne_zero(
    files: Paths | str | Path, labels: Labels, *, provenance: Mapping[str, Any] | None = None
) -> Grid:
    """Return the grid of spectra that Payne Zero or pyKurucz computed.

    Parameters
    ----------
    files : sequence of paths, or path
        One a star. ``.npz`` of Payne Zero: ``wavelength_nm``, ``flux_total`` and ``flux_continuum``
        in erg/s/cm2/nm. Text (``.spec``) of pyKurucz: wavelength in nm, flux and continuum as the
        Eddington flux H_nu in erg/s/cm2/Hz/sr, as SYNTHE writes them. Both in vacuum.
    labels : Labels
        A row a file, in their order.
    provenance : mapping, optional
        What else to say about the grid.

    Raises
    ------
    InputError
        As `import_turbospectrum`.
    """
    kinds = {path.suffix == ".npz" for path in _listed(files)}
    if len(kinds) > 1:
        raise InputError("files", expected="files of one code", found=".npz among others")

    def read(path: Path) -> _Read:
        if path.suffix == ".npz":
            names = ("wavelength_nm", "flux_total", "flux_continuum")
            wavelength, total, continuum = _named_arrays(path, names)
            return _Read(10.0 * wavelength, total / continuum, continuum / 10.0)
        wavelength, total, continuum = _text_columns(path, "wavelength in nm, flux, continuum")
        per_angstrom = 4 * np.pi * LIGHT * 1e8 / (10.0 * wavelength) ** 2
        return _Read(10.0 * wavelength, total / continuum, continuum * per_angstrom)

    engine = "Payne Zero" if True in kinds else "pyKurucz"
    return _grid(_listed(files), labels, read, {"engine": engine, **(provenance or {})})


def import_phoenix(
    files: Paths | str | Path,
    wavelength_file: str | Path,
    window: tuple[float, float],
    *,
    provenance: Mapping[str, Any] | None = None,
) -> Grid:
    """Return a window of spectra of the PHOENIX library of Husser et al. (2013, A&A 553, A6).

    The library has no continuum: the upper envelope of each spectrum stands in, the 98th percentile
    of its ratio to a black body in bins of 50 Angstrom. Every star has the flag PSEUDO_CONTINUUM,
    and its flux may pass 1.

    Parameters
    ----------
    files : sequence of paths, or path
        ``lte*.PHOENIX-ACES-AGSS-COND-2011-HiRes.fits``: flux in erg/s/cm2/cm, labels in the header
        (``PHXTEFF``, ``PHXLOGG``, ``PHXM_H``, ``PHXALPHA``, ``PHXXI_L``).
    wavelength_file : path
        ``WAVE_PHOENIX-ACES-AGSS-COND-2011.fits``: vacuum Angstrom.
    window : (low, high)
        Vacuum Angstrom; a full spectrum has 1.6 million pixels.
    provenance : mapping, optional
        What else to say about the grid.

    Raises
    ------
    InputError
        If a file is missing or another, or the window holds no pixels.
    """
    pixels, header = _fits_image(Path(wavelength_file))
    inside = (pixels >= window[0]) & (pixels <= window[1])
    if inside.sum() < 2:
        raise InputError(
            "window",
            expected=f"Angstrom between {pixels[0]:.1f} and {pixels[-1]:.1f}",
            found=f"{window[0]:g} to {window[1]:g}",
        )
    paths, wavelength, rows = _listed(files), pixels[inside], []
    cards = ("PHXTEFF", "PHXLOGG", "PHXM_H", "PHXALPHA", "PHXXI_L")
    for path in paths:
        _, header = _fits_image(path)
        missing = [card for card in cards if card not in header]
        if missing:
            raise InputError(path, expected=f"cards {', '.join(cards)}", found=f"no {missing[0]}")
        rows.append([float(header[card]) for card in cards])
    values = np.array(rows)
    names = ("teff", "logg", "m_h", "alpha_m", "v_micro")
    ids = np.array([path.name for path in paths])
    labels = Labels(names, values, np.full(values.shape, np.nan), ids)
    teff = dict(zip(paths, values[:, 0], strict=True))

    def read(path: Path) -> _Read:
        flux, _ = _fits_image(path)
        if flux.shape != pixels.shape:
            raise InputError(
                path, expected=f"{pixels.size} pixels", found=f"shape {flux.shape}",
                fix="Give the wavelength file of the same library.",
            )  # fmt: skip
        absolute = flux[inside] * 1e-8
        continuum = _envelope(wavelength, absolute, teff[path])
        return _Read(wavelength, absolute / continuum, continuum)

    about = {"engine": "PHOENIX", "continuum": "upper envelope", **(provenance or {})}
    return _grid(paths, labels, read, about, flags=("PSEUDO_CONTINUUM",))


def _grid(
    paths: Sequence[Path],
    labels: Labels | None,
    read: Callable[[Path], _Read],
    provenance: Mapping[str, Any],
    flags: tuple[str, ...] = (),
) -> Grid:
    if labels is None or len(labels) != len(paths):
        raise InputError(
            "labels",
            expected=f"a row for each of {len(paths)} files, in their order",
            found="none" if labels is None else f"{len(labels)} rows",
        )
    fluxes, continua, first = [], [], None
    teff = labels["teff"] if "teff" in labels.names else np.full(len(paths), np.nan)
    for path, hot in zip(paths, teff, strict=True):
        one = read(path)
        first = one if first is None else first
        _check_pixels(path, one.wavelength, first.wavelength, paths[0])
        _check_unit(path, one, float(hot))
        fluxes.append(np.asarray(one.flux, np.float32))
        continua.append(np.asarray(one.continuum, np.float32))
    assert first is not None
    return Grid(
        first.wavelength,
        np.stack(fluxes),
        np.stack(continua),
        labels,
        flags=(flags,) * len(paths),
        provenance={
            **provenance,
            "imported": True,
            "wavelength_medium": "vacuum",
            "failed": [],
            "notes": [],
        },
    )


def _check_pixels(path: Path, found: NDArray, wanted: NDArray, first: Path) -> None:
    if found.shape != wanted.shape or not np.allclose(found, wanted, rtol=SAME_PIXEL, atol=0):
        raise InputError(
            path,
            expected=f"the {wanted.size} wavelengths of {first.name}",
            found=f"{found.size} wavelengths from {found[0]:.3f} to {found[-1]:.3f} Angstrom",
            fix="Import files of other pixels as a grid of their own.",
        )


def _check_unit(path: Path, one: _Read, teff: float) -> None:
    """Find a wrong unit, and flux that is not normalised."""
    if not (np.isfinite(one.flux).all() and (one.flux >= 0).all() and (one.continuum > 0).all()):
        raise InputError(path, expected="flux >= 0 and a continuum > 0", found="other numbers")
    high = float(np.median(one.flux))
    if not 0.02 < high < 1.5:
        raise InputError(
            path,
            expected="normalised flux, with a median near 1",
            found=f"a median of {high:.3g}",
            fix="Is the flux divided by the continuum already, or not yet (`rectified`)?",
        )
    if not np.isfinite(teff):
        return
    ratio = float(np.median(one.continuum / _black_body(one.wavelength, teff)))
    if not 1 / FACTOR < ratio < FACTOR:
        raise InputError(
            path,
            expected=f"a continuum near pi B(lambda, {teff:g} K), in the unit of this code",
            found=f"{ratio:.2g} times that",
            fix="Check the unit of the continuum and the order of the labels.",
        )


def _black_body(wavelength: NDArray, teff: float) -> NDArray:
    """Return pi B_lambda in erg/s/cm2/Angstrom."""
    cm = wavelength * 1e-8
    exponent = PLANCK * LIGHT / (cm * BOLTZMANN * teff)
    return 2e-8 * np.pi * PLANCK * LIGHT**2 / cm**5 / np.expm1(exponent)


def _envelope(wavelength: NDArray, flux: NDArray, teff: float) -> NDArray:
    body = _black_body(wavelength, teff)
    count = max(int((wavelength[-1] - wavelength[0]) / ENVELOPE_BIN), 1)
    bins = np.array_split(np.arange(wavelength.size), count)
    at = [wavelength[one].mean() for one in bins]
    ratio = [np.quantile(flux[one] / body[one], ENVELOPE_QUANTILE) for one in bins]
    return np.interp(wavelength, at, ratio) * body


def _collected(path: Path, about: Mapping[str, Any]) -> Grid:
    """Many spectra of Turbospectrum in one file of arrays."""
    names = ("wave_air", "flux_u16", "flux_scale", "cont", "wcont", "labels", "label_names")
    air, packed, scale, cont, at, values, columns = _npz(path, names)
    labels = tuple(ARRAY_NAMES.get(str(name), str(name).lower()) for name in columns)
    with np.load(path, allow_pickle=False) as file:
        kind = file["kind"] if "kind" in file.files else [""] * len(values)
    ids = np.array([f"{i} {name}".strip() for i, name in enumerate(kind)])
    table = Labels(labels, values, np.full(values.shape, np.nan), ids)
    flux = packed.astype(np.float32) * np.float32(scale)
    continuum = np.stack([np.interp(air, at, one) for one in cont]).astype(np.float32)
    rows = {Path(f"{path.name}[{i}]"): i for i in range(len(values))}
    vacuum = air_to_vacuum(air)

    def read(row: Path) -> _Read:
        return _Read(vacuum, flux[rows[row]], continuum[rows[row]])

    return _grid(list(rows), table, read, about)


def _listed(files: Paths | str | Path) -> list[Path]:
    paths = [Path(files)] if isinstance(files, str | Path) else [Path(one) for one in files]
    if not paths:
        raise InputError("files", expected="at least one file", found="none")
    for path in paths:
        if not path.is_file():
            raise InputError(path, expected="a spectrum", found="no such file")
    return paths


def _vacuum(wavelength: NDArray, medium: Medium) -> NDArray:
    if medium not in ("air", "vacuum"):
        raise InputError("medium", expected="'air' or 'vacuum'", found=repr(medium))
    return air_to_vacuum(wavelength) if medium == "air" else wavelength


def _text_columns(path: Path, meaning: str) -> Iterable[NDArray]:
    try:
        with warnings.catch_warnings(action="ignore"):  # of no rows, an error below
            table = np.loadtxt(path, usecols=(0, 1, 2), ndmin=2, comments=("#", "*"))
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise InputError(path, expected=f"columns {meaning}", found=f"{error}") from error
    if len(table) < 2:
        raise InputError(path, expected=f"columns {meaning}", found=f"{len(table)} rows")
    return table.T


def _named_arrays(path: Path, names: Sequence[str]) -> list[NDArray]:
    if path.suffix == ".npz":
        arrays = _npz(path, names)
    else:
        from astropy.table import Table

        try:
            content = path.read_bytes()
            check_table(path, content, b",")
            table = Table.read(io.BytesIO(content), format="ascii.csv")
        except Exception as error:  # the reader has errors of its own
            raise InputError(path, expected="an .npz or .csv", found=f"{error}") from error
        _check_names(path, names, table.colnames)
        arrays = [np.asarray(table[name], float) for name in names]
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1 or arrays[0].ndim != 1:
        raise InputError(
            path,
            expected=f"{', '.join(names)} of one star, all of one length",
            found=f"shapes {', '.join(str(array.shape) for array in arrays)}",
        )
    return arrays


def _npz(path: Path, names: Sequence[str]) -> list[NDArray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            _check_names(path, names, file.files)
            members = zipfile.ZipFile(path).infolist()
            check_unpacked(path, sum(one.file_size for one in members), path.stat().st_size)
            return [np.asarray(file[name]) for name in names]
    except InputError:
        raise
    except Exception as error:  # zip files can be damaged in many ways
        raise InputError(path, expected="a whole .npz of plain arrays", found=f"{error}") from error


def _check_names(path: Path, names: Sequence[str], found: Sequence[str]) -> None:
    missing = [name for name in names if name not in found]
    if missing:
        raise InputError(
            path, expected=f"arrays {', '.join(names)}", found=f"no {missing[0]} among {found}"
        )


def _fits_image(path: Path) -> tuple[NDArray, Mapping[str, Any]]:
    from astropy.io import fits

    if not path.is_file():
        raise InputError(path, expected="a FITS file", found="no such file")
    with blaming(path, "a FITS image"):
        content = path.read_bytes()
        if content.startswith(b"\x1f\x8b"):
            content = unpacked(path)
        check_fits(path, io.BytesIO(content), len(content))
        with fits.open(io.BytesIO(content)) as hdus:
            return np.asarray(hdus[0].data, np.float64), dict(hdus[0].header)
