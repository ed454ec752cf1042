"""LAMOST: low resolution (LRS, three file layouts) and medium resolution (MRS, two layouts).

Sources: LAMOST data releases (Luo et al. 2015, RAA 15, 1095; Liu et al. 2020, arXiv:2005.07210).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntFlag
from typing import ClassVar

import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray

from spectrolabe.errors import InputError
from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.surveys.base import Survey, column, good_ivar
from spectrolabe.surveys.files import SurveyFile
from spectrolabe.surveys.products import copied

__all__ = ["LamostLRS", "LamostMRS", "LamostPixel", "low_resolution"]

SPEED_OF_LIGHT = 299792.458  # km/s
JOIN, BLUE_FWHM, RED_FWHM = 5800.0, 2.9, 4.1  # Å: where the arms of LRS meet, widths of lines


class LamostPixel(IntFlag):
    """Bits of ANDMASK, ORMASK and PIXMASK (data production description of LAMOST DR3).

    Any of them makes a pixel unusable. In LRS co-adds they cost nothing: in DR1, DR6 and DR10 every
    pixel with ANDMASK or ORMASK set has ivar 0 already. In MRS ANDMASK rejects up to 0.5 per cent
    of the pixels of a co-add that have an ivar, PIXMASK up to 0.8 per cent of an exposure.
    """

    BADCCD = 1  # bad pixel on the detector
    BADPROFILE = 2  # bad profile in extraction
    NOSKY = 4  # no sky at this wavelength
    BRIGHTSKY = 8
    BADCENTER = 16  # fibre trace outside the detector
    NODATA = 32


def _is_lamost(file: SurveyFile) -> bool:
    telescope = str(file.header.get("TELESCOP", "")).strip().upper()
    return telescope == "LAMOST" or "LAMOST" in str(file.header.get("ORIGIN", "")).upper()


def _velocity(header: fits.Header) -> float:
    """Radial velocity of the star from the pipeline's redshift, km/s."""
    z = float(header.get("Z", np.nan))
    return z * SPEED_OF_LIGHT if np.isfinite(z) and abs(z) < 0.01 else np.nan


def _frame(header: fits.Header) -> Frame:
    """Heliocentric unless the pipeline says that it did not correct; 13 m/s from barycentric."""
    return Frame.OBSERVED if header.get("HELIO") is False else Frame.BARYCENTRIC


def low_resolution(wavelength: ArrayLike) -> NDArray:
    """Return R of LRS spectra, from 1290 to 2000 in the blue arm and 1420 to 2200 in the red.

    The files only speak of about 1800. Lines are as wide all along an arm, about five pixels of
    its detector: widths found by comparing 33 FGK stars of DR10 with computed spectra in 17
    windows, each free in [Fe/H], are 2.8 to 3.1 Å below 5600 Å and 3.9 to 4.2 Å above 6000 Å.

    Parameters
    ----------
    wavelength : array_like, shape (M,)
        Vacuum Å.
    """
    at = np.asarray(wavelength, dtype=np.float64)
    return at / np.where(at < JOIN, BLUE_FWHM, RED_FWHM)


def _identity(file: SurveyFile) -> str:
    return file.path.name.removesuffix(".gz").removesuffix(".fits")


def _star(file: SurveyFile) -> str:
    return str(file.header.get("DESIG") or _identity(file)).strip()


class LamostLRS(Survey):
    """LAMOST low-resolution spectra, 3700-9100 Å, and their AFGK catalogue."""

    name = "lamost_lrs"
    title = "LAMOST LRS"
    pixel_bits = LamostPixel
    label_columns: ClassVar[Mapping[str, tuple[str, str]]] = {
        "teff": ("teff", "teff_err"),
        "logg": ("logg", "logg_err"),
        "fe_h": ("feh", "feh_err"),
        "alpha_m": ("alpha_m", "alpha_m_err"),
    }
    key_columns: ClassVar[Mapping[str, str]] = {"file": "file", "obsid": "obsid"}
    required_columns = ("teff", "logg", "feh")
    rv_column = ("rv",)
    snr_column = ("snrg",)
    resolution = 1800.0

    def recognises(self, file: SurveyFile) -> bool:
        """A LAMOST header, and either a table COADD or a primary image of five rows."""
        if file.hdus is None or not _is_lamost(file) or "COADD_B" in file.extensions:
            return False
        return "COADD" in file.extensions or file.header.get("NAXIS") == 2

    def spectra(self, file: SurveyFile) -> list[Spectrum]:
        """Return the one spectrum of the file, whichever release wrote it."""
        wavelength, flux, ivar, andmask = self._rows(file)
        cards = ("OBSID", "LMJD", "PLANID", "SPID", "FIBERID", "RA", "DEC", "DESIG", "DATA_V")
        return [
            Spectrum(
                wavelength=wavelength,
                flux=flux,
                ivar=good_ivar(flux, ivar, andmask != 0),
                resolution=low_resolution(wavelength),
                frame=_frame(file.header),
                rv=_velocity(file.header),
                survey=self.name,
                spectrum_id=_identity(file),
                star_id=_star(file),
                meta=file.meta(*cards),
            )
        ]

    def rewritten(self, file: SurveyFile, spectra: Sequence[Spectrum], model: str) -> fits.HDUList:
        """Flux and ivar of the table COADD, or of the first two rows of the image."""
        hdus, one = copied(file, model), spectra[0]
        if "COADD" in file.extensions:
            hdus["COADD"].data["FLUX"][0] = one.flux
            hdus["COADD"].data["IVAR"][0] = one.ivar
        else:
            hdus[0].data[:2] = one.flux, one.ivar
        return hdus

    def _rows(self, file: SurveyFile) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        """Wavelength, flux, ivar and and-mask of DR8+ (table), <=DR7 and DR1 (image)."""
        if "COADD" in file.extensions:
            columns = file.arrays("COADD")
            names = ("WAVELENGTH", "FLUX", "IVAR", "ANDMASK")
            return tuple(columns[name][0] for name in names)
        image = file.hdus[0].data if file.hdus is not None else None
        if image is None or image.ndim != 2 or image.shape[0] < 4:
            raise InputError(
                file.path,
                expected="LAMOST rows flux, ivar, wavelength, and-mask, or-mask",
                found=f"an image of shape {getattr(image, 'shape', None)}",
            )
        grid = _log_grid(file.header, image.shape[1])
        # DR1 has normalised flux where later releases have the wavelength
        has_wavelength = np.allclose(image[2], grid, rtol=1e-4)
        return (image[2] if has_wavelength else grid), image[0], image[1], image[3]

    def quality(self, table: Table) -> NDArray:
        """S/N_g > 30 and a label with an error; fibres with a warning are dropped."""
        good = np.isfinite(column(table, "teff")) & (column(table, "teff") > 0)
        if "snrg" in table.colnames:
            good &= column(table, "snrg") > 30
        if "fibermask" in table.colnames:
            good &= column(table, "fibermask") == 0
        if "teff_err" in table.colnames:
            good &= column(table, "teff_err") > 0
        return good


def _log_grid(header: fits.Header, size: int) -> NDArray:
    return 10.0 ** (header["COEFF0"] + header["COEFF1"] * np.arange(size))


class LamostMRS(Survey):
    """LAMOST medium-resolution spectra: co-added blue and red arms and single exposures."""

    name = "lamost_mrs"
    title = "LAMOST MRS"
    pixel_bits = LamostPixel
    label_columns: ClassVar[Mapping[str, tuple[str, str]]] = {
        "teff": ("teff_lasp", "teff_lasp_err"),
        "logg": ("logg_lasp", "logg_lasp_err"),
        "fe_h": ("feh_lasp", "feh_lasp_err"),
        "v_broad": ("vsini_lasp", "vsini_lasp_err"),
        "alpha_m": ("alpha_m_lasp", "alpha_m_lasp_err"),
        **{
            f"{x}_fe": (f"{x}_fe", "")
            for x in ("c", "n", "o", "mg", "al", "si", "s", "ca", "ti", "cr", "ni", "cu")
        },
    }
    key_columns: ClassVar[Mapping[str, str]] = {
        "file": "file",
        "obsid": "obsid",
        "mobsid": "mobsid",
    }
    required_columns = ("teff_lasp", "logg_lasp", "feh_lasp")
    rv_column = ("rv_lasp0", "rv_br0")
    snr_column = ("snr",)
    resolution = 7500.0

    def recognises(self, file: SurveyFile) -> bool:
        """A LAMOST header and the two co-added arms."""
        return file.hdus is not None and _is_lamost(file) and "COADD_B" in file.extensions

    def spectra(self, file: SurveyFile) -> list[Spectrum]:
        """Return the co-added arms first, then every single exposure of either arm."""
        coadds = [name for name in ("COADD_B", "COADD_R") if name in file.extensions]
        singles = [name for name in file.extensions if name[:2] in ("B-", "R-")]
        return [self._arm(file, name) for name in coadds + singles]

    def _arm(self, file: SurveyFile, name: str) -> Spectrum:
        # one row of vectors (DR9 v1 on) or one row a pixel; red exposures descend in wavelength
        data = {key: values.ravel() for key, values in file.arrays(name).items()}
        if "WAVELENGTH" in data:
            wavelength = data["WAVELENGTH"].astype(float)
        else:
            wavelength = 10.0 ** data["LOGLAM"].astype(float)
        mask = next(data[key] for key in ("PIXMASK", "ANDMASK", "ORMASK") if key in data)
        order = np.argsort(wavelength, kind="stable")
        flux, ivar = data["FLUX"][order], data["IVAR"][order]
        identity = _identity(file)
        return Spectrum(
            wavelength=wavelength[order],
            flux=flux,
            ivar=good_ivar(flux, ivar, mask[order] != 0),
            resolution=self.resolution,
            frame=_frame(file.header),
            rv=_velocity(file.header),
            survey=self.name,
            spectrum_id=f"{identity}:{name}",
            star_id=_star(file),
            meta={
                **file.meta("OBSID", "LMJD", "RA", "DEC", "DESIG"),
                "extension": name,
                "coadd": name.startswith("COADD"),
            },
        )

    def rewritten(self, file: SurveyFile, spectra: Sequence[Spectrum], model: str) -> fits.HDUList:
        """Flux and ivar of the table of each arm and exposure."""
        hdus = copied(file, model)
        for one in spectra:
            name = str(one.meta["extension"])
            data = file.arrays(name)
            key = "WAVELENGTH" if "WAVELENGTH" in data else "LOGLAM"
            order = np.argsort(data[key].ravel(), kind="stable")
            for column_name, values in (("FLUX", one.flux), ("IVAR", one.ivar)):
                column_ = hdus[name].data[column_name]
                changed = np.empty(column_.size, column_.dtype)
                changed[order] = values
                hdus[name].data[column_name] = changed.reshape(column_.shape)
        return hdus

    def quality(self, table: Table) -> NDArray:
        """Co-added, S/N > 30, neither arm flagged."""
        good = (column(table, "snr") > 30) & (column(table, "teff_lasp") > 0)
        for flag, value in (("coadd", 1), ("bad_b", 0), ("bad_r", 0), ("fibermask", 0)):
            if flag in table.colnames:
                good &= column(table, flag) == value
        return good
