"""ESO Science Data Products (UVES, FEROS, HARPS, X-shooter, GIRAFFE, ...) and 4MOST level 1.

Both hold one row of vectors, and both are read by what they declare: utypes name the columns,
TUCD tells air from vacuum, SPECSYS the frame, SPEC_RES the resolution. Column names differ from
collection to collection and count last.

Sources: ESO Science Data Products Standard, version 6; IVOA Spectrum Data Model 1.2; 4MOST:
public simulator and readers. The latter is provisional: no public file existed when this was
written.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from astropy import units
from astropy.io import fits
from numpy.typing import NDArray

from spectrolabe.errors import InputError
from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.surveys.base import good_ivar
from spectrolabe.surveys.files import SurveyFile
from spectrolabe.surveys.generic import RegistryLabels, to_angstrom, to_vacuum
from spectrolabe.surveys.keywords import Keywords

__all__ = ["EsoSdp", "FourMost"]

FRAMES = {
    "BARYCENT": "barycentric",
    "HELIOCEN": "barycentric",
    "TOPOCENT": "observed",
    "SOURCE": "rest",
}
FLUX_UNIT = 1e-17 * units.erg / units.s / units.cm**2 / units.AA
CALLED = {
    "R": "SPEC_RES = 6500 in the primary header",
    "MEDIUM": "TUCD of the wavelength column ('em.wl;obs.atmos' is air, 'em.wl' vacuum)",
    "FRAME": "SPECSYS = 'BARYCENT' in the primary header",
    "WAVEUNIT": "TUNIT of the wavelength column",
}
# the last part of the utype, and names for tables without utypes
ROLES = {
    "wavelength": (("spectralaxis.value",), ("WAVE",)),
    "flux": (("fluxaxis.value",), ("FLUX", "FLUX_REDUCED")),
    # some collections spell it so
    "error": (
        ("fluxaxis.accuracy.staterror", "fluxaxis.accurancy.staterror"),
        ("ERR_FLUX", "ERR", "ERR_REDUCED"),
    ),
    "quality": (
        ("fluxaxis.accuracy.qualitystatus", "fluxaxis.accurancy.qualitystatus"),
        ("QUAL",),
    ),
}


@dataclass(frozen=True)
class _Column:
    name: str
    unit: str
    ucd: str
    model: str  # namespace of the utype: spec, eso, ...
    role: str


class EsoSdp(RegistryLabels):
    """ESO Science Data Products: 1-D spectra of any instrument, of phase-3 releases.

    Of several fluxes the calibrated one is taken, marked ``meta.main``, with the error of the same
    data model. Flux in erg/s/cm2/Å is given in 1e-17 of it, other units as they are.
    """

    name = "eso_sdp"
    title = "ESO Science Data Products"
    wavelength_unit: ClassVar[str] = ""  # where the file has none
    cards: ClassVar[tuple[str, ...]] = (
        *("OBJECT", "RA", "DEC", "MJD-OBS", "EXPTIME", "INSTRUME", "SPECSYS", "SNR"),
        *("PROG_ID", "CNAME", "TRG_UID", "CONTNORM", "FLUXCAL"),
    )

    def recognises(self, file: SurveyFile) -> bool:
        """A one-row spectrum table that follows the standard, and is not of 4MOST."""
        return _extension(file) is not None and not _is_4most(file)

    def spectra(self, file: SurveyFile) -> list[Spectrum]:
        """Return the one spectrum of the file."""
        assert file.hdus is not None
        extension = _extension(file)
        if extension is None:
            raise KeyError("no spectrum table")
        table = file.hdus[extension].header
        columns = _columns(table)
        data = {key: values.ravel() for key, values in file.arrays(extension).items()}
        axis = _pick(file, columns, "wavelength")
        keywords = self._keywords(file, table, axis)
        unit = axis.unit or self.wavelength_unit or keywords.text("WAVEUNIT")
        wavelength = to_vacuum(to_angstrom(data[axis.name], unit, file), keywords)
        flux, ivar = _flux(file, columns, data, keywords)
        identity = file.path.name.removesuffix(".gz").removesuffix(".fits")
        return [
            Spectrum(
                wavelength=wavelength,
                flux=flux,
                ivar=ivar,
                resolution=keywords.resolution(wavelength),
                frame=Frame(keywords.choice("FRAME", [frame.value for frame in Frame])),
                rv=keywords.number("RV", unknown=True) if "RV" in keywords else np.nan,
                survey=self.name,
                spectrum_id=identity,
                star_id=_star(file, table) or identity,
                meta=file.meta(*self.cards),
            )
        ]

    def _keywords(self, file: SurveyFile, table: fits.Header, axis: _Column) -> Keywords:
        """Keywords from what the standard calls them, each wherever the file has it."""
        declared: dict[str, str | float] = {}
        for header in (table, file.header):
            if "SPEC_RES" in header:
                declared.setdefault("R", header["SPEC_RES"])
            if "SPECSYS" in header:
                system = str(header["SPECSYS"]).strip().upper()
                declared.setdefault("FRAME", FRAMES.get(system, system))
        if axis.ucd:
            declared["MEDIUM"] = _medium(file, axis.ucd)
        return Keywords.of(file.path, declared, called=CALLED)


class FourMost(EsoSdp):
    """4MOST L1: joined low-resolution spectra and the separate arms of high resolution."""

    name = "fourmost"
    title = "4MOST"
    wavelength_unit = "Angstrom"

    def recognises(self, file: SurveyFile) -> bool:
        """A one-row spectrum table with a 4MOST target."""
        return _extension(file) is not None and _is_4most(file)


def _extension(file: SurveyFile) -> int | None:
    """The table that has a spectral axis by utype, or a standard name and a column WAVE."""
    if file.hdus is None:
        return None
    for i in range(1, len(file.extensions)):
        names = file.columns(i)
        if not names or file.hdus[i].header["NAXIS2"] != 1:
            continue
        if any(column.role == "wavelength" for column in _columns(file.hdus[i].header)):
            return i
        standard = file.extensions[i] in ("SPECTRUM", "PHASE3SPECTRUM")
        if standard and "WAVE" in {name.upper() for name in names}:
            return i
    return None


def _is_4most(file: SurveyFile) -> bool:
    instrument = str(file.header.get("INSTRUME", "")).strip().upper()
    return instrument in ("4MOST", "QMOST") or "TRG_UID" in file.header


def _columns(header: fits.Header) -> list[_Column]:
    found = []
    for i in range(1, header["TFIELDS"] + 1):
        utype = str(header.get(f"TUTYP{i}", "")).strip()
        model, _, rest = utype.rpartition(":")
        last = rest.lower().rpartition("data.")[2]
        role = next((role for role, (utypes, _) in ROLES.items() if last in utypes), "")
        if role == "" and utype == "":
            name = str(header.get(f"TTYPE{i}", "")).strip().upper()
            role = next((role for role, (_, names) in ROLES.items() if name in names), "")
        found.append(
            _Column(
                str(header.get(f"TTYPE{i}", "")).strip().upper(),
                str(header.get(f"TUNIT{i}", "")).strip(),
                str(header.get(f"TUCD{i}", "")).strip().lower(),
                model.lower(),
                role,
            )
        )
    return found


def _pick(file: SurveyFile, columns: list[_Column], role: str, model: str = "") -> _Column:
    """The column of a role: the main one before others, calibrated before raw, same model first."""
    found = [column for column in columns if column.role == role]
    if not found:
        raise InputError(
            file.path,
            expected=f"a column of utype {ROLES[role][0][0]} or name {' or '.join(ROLES[role][1])}",
            found=", ".join(column.name for column in columns),
        )
    names = ROLES[role][1]

    def rank(column: _Column) -> tuple[bool, bool, bool, int]:
        known = names.index(column.name) if column.name in names else len(names)
        return (
            bool(model) and column.model != model,
            "meta.main" not in column.ucd,
            "stat.uncalib" in column.ucd,
            known,
        )

    return min(found, key=rank)


def _medium(file: SurveyFile, ucd: str) -> str:
    if not ucd.startswith("em.wl"):
        raise InputError(
            file.path, expected="a spectral axis in wavelength, TUCD em.wl", found=f"TUCD {ucd}"
        )
    return "air" if "obs.atmos" in ucd else "vacuum"


def _flux(
    file: SurveyFile, columns: list[_Column], data: dict[str, NDArray], keywords: Keywords
) -> tuple[NDArray, NDArray]:
    """Flux and ivar; 0 where QUAL is not 0, or flux or error is not a number."""
    column = _pick(file, columns, "flux")
    scale = _scale(column.unit)
    flux = data[column.name].astype(float) * scale
    error = data[_pick(file, columns, "error", column.model).name].astype(float) * scale
    if np.isfinite(flux).any() and not (error > 0).any():
        # such collections exist: the column is there, for the standard asks for it, but empty
        error = np.abs(flux) / keywords.number("SNR")
    bad = np.zeros(len(flux), dtype=bool)
    if any(column.role == "quality" for column in columns):
        bad = data[_pick(file, columns, "quality").name] != 0
    with np.errstate(divide="ignore", invalid="ignore"):
        ivar = np.where(error > 0, error**-2.0, 0.0)
    return flux, good_ivar(flux, ivar, bad)


def _scale(unit: str) -> float:
    """To 1e-17 erg/s/cm2/Å, for single precision cannot hold the ivar of faint stars in cgs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", units.UnitsWarning)
        parsed = units.Unit(unit, parse_strict="silent")
    try:
        return float(parsed.to(FLUX_UNIT))
    except (units.UnitConversionError, AttributeError):
        return 1.0


def _star(file: SurveyFile, table: fits.Header) -> str:
    for key in ("CNAME", "OBJECT"):
        for header in (file.header, table):
            if str(header.get(key, "")).strip():
                return str(header[key]).strip()
    return ""
