"""WEAVE: level-1 multi-object spectra of either resolution, and the stellar table of level 2.

Source: WEAVE data model version 8 (core processing and advanced processing systems), March 2026;
Jin et al. 2024, MNRAS 530, 2688. Provisional: no public file existed when this was written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np
from astropy import units
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

from spectrolabe.errors import InputError
from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.spectra.observe import air_to_vacuum
from spectrolabe.surveys.base import Survey, column, good_ivar
from spectrolabe.surveys.files import SurveyFile

__all__ = ["Weave"]

FLUX_SCALE = 1e17  # erg/s/cm2/Å would overflow single precision in ivar
STELLAR_USES = ("T", "C")  # science and calibration targets; 'S' is sky


class Weave(Survey):
    """WEAVE L1 files ``single_``, ``stack_`` and ``superstack_``, and 1-D supertargets.

    Flux is calibrated: ADU times sensitivity function, in 1e-17 erg/s/cm2/Å. The wavelength scale
    is in air and has the heliocentric correction of each fibre (``Helio_cor``) in it: without that
    the stacks of exposures of different nights could not be made.
    """

    name = "weave"
    title = "WEAVE"
    label_columns: ClassVar[Mapping[str, tuple[str, str]]] = {
        "teff": ("teff", "teff_err"),
        "logg": ("logg", "logg_err"),
        "fe_h": ("feh", "feh_err"),
        "alpha_fe": ("alpha", "alpha_err"),
    }
    key_columns: ClassVar[Mapping[str, str]] = {"star_id": "cname", "targid": "targid"}
    required_columns = ("teff", "logg", "feh")
    rv_column = ("vrad",)
    snr_column = ("snr_fr", "snr_rvs")
    table_extension = "STAR_TABLE"

    def recognises(self, file: SurveyFile) -> bool:
        """A table of fibres and an arm with its sensitivity function."""
        return "FIBTABLE" in file.extensions and bool(_arms(file))

    def spectra(self, file: SurveyFile) -> list[Spectrum]:
        """Return the allocated stellar fibres, arm by arm, in the order of the fibre table."""
        fibres = Table(file.arrays("FIBTABLE"))
        return [spectrum for arm in _arms(file) for spectrum in self._arm(file, arm, fibres)]

    def _arm(self, file: SurveyFile, arm: str, fibres: Table) -> Iterator[Spectrum]:
        images = [_image(file, f"{arm}_{kind}") for kind in ("DATA", "IVAR", "SENSFUNC")]
        data, ivar, sensitivity = np.broadcast_arrays(*images)
        if len(data) != len(fibres):
            raise InputError(
                file.path,
                expected=f"a row of FIBTABLE for each of the {len(data)} spectra in {arm}_DATA",
                found=f"{len(fibres)} rows",
            )
        wavelength = air_to_vacuum(_grid(file, f"{arm}_DATA"))
        for row in np.flatnonzero(_stellar(fibres)):
            fibre = fibres[row]
            flux = data[row] * sensitivity[row] * FLUX_SCALE
            with np.errstate(divide="ignore", invalid="ignore"):
                calibrated = ivar[row] / (sensitivity[row] * FLUX_SCALE) ** 2
            yield Spectrum(
                wavelength=wavelength,
                flux=flux,
                ivar=good_ivar(flux, calibrated, sensitivity[row] <= 0),
                resolution=self._resolution(file, fibre, wavelength),
                frame=Frame.BARYCENTRIC,
                survey=self.name,
                spectrum_id=f"{_identity(file)}:{arm}:{fibre['FIBREID']}",
                star_id=_text(fibre["CNAME"]) or _text(fibre["TARGID"]),
                meta={
                    **file.meta("OBSMODE", "OBID", "MJD-OBS", "RUN", "DATAMVER"),
                    "extension": arm,
                    **{
                        key.lower(): _text(fibre[key])
                        for key in ("FIBREID", "TARGID", "TARGNAME", "TARGSRVY", "HELIO_COR")
                        if key in fibres.colnames
                    },
                },
            )

    def _resolution(self, file: SurveyFile, fibre: Table.Row, wavelength: NDArray) -> NDArray:
        fwhm = float(fibre["RESOL"])
        if not fwhm > 0:
            raise InputError(
                f"{file.path}, fibre {fibre['FIBREID']}",
                expected="Resol, the FWHM of the fibre in Å",
                found=f"{fwhm}",
                fix="Correct the FIBTABLE, or set its STATUS to something else than 'A'.",
            )
        return wavelength / fwhm

    def quality(self, table: Table) -> NDArray:
        """Keep what FERRE calls good (FLAG_FR = 1)."""
        good = column(table, "teff") > 0
        return good & (column(table, "flag_fr") == 1) if "flag_fr" in table.colnames else good


def _arms(file: SurveyFile) -> list[str]:
    names = file.extensions
    arms = [name.removesuffix("_SENSFUNC") for name in names if name.endswith("_SENSFUNC")]
    return [arm for arm in arms if f"{arm}_DATA" in names and f"{arm}_IVAR" in names]


def _image(file: SurveyFile, name: str) -> NDArray:
    assert file.hdus is not None
    return np.atleast_2d(np.asarray(file.hdus[name].data, dtype=np.float64))


def _grid(file: SurveyFile, name: str) -> NDArray:
    """Linear wavelength grid in air, Å."""
    assert file.hdus is not None
    header: fits.Header = file.hdus[name].header
    pixel = np.arange(header["NAXIS1"]) + 1 - header.get("CRPIX1", 1.0)
    unit = units.Unit(header.get("CUNIT1", "Angstrom"))
    return (header["CRVAL1"] + header["CD1_1"] * pixel) * unit.to(units.AA)


def _stellar(fibres: Table) -> NDArray:
    """Fibres on an allocated target that is not sky; all of them in a file of one supertarget."""
    keep = np.ones(len(fibres), dtype=bool)
    for key, wanted in (("STATUS", ("A",)), ("TARGUSE", STELLAR_USES)):
        if key in fibres.colnames:
            keep &= np.isin([_text(value) for value in fibres[key]], wanted)
    return keep


def _identity(file: SurveyFile) -> str:
    return file.path.name.removesuffix(".gz").removesuffix(".fits").removesuffix(".fit")


def _text(value: object) -> str:
    return (value.decode() if isinstance(value, bytes) else str(value)).strip()
