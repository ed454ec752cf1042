"""DESI: co-added and single-exposure spectra, three cameras, and the Milky Way Survey catalogue.

Sources: DESI data model (desidatamodel.readthedocs.io); Guy et al. (2023, AJ 165, 144; resolution
matrix); Koposov et al. (2025, arXiv:2505.14787; stellar catalogue of DR1).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import IntFlag
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

from spectrolabe.errors import InputError
from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.surveys.base import LabelTable, Survey, column, good_ivar, number
from spectrolabe.surveys.files import SurveyFile, read_table
from spectrolabe.surveys.products import copied

__all__ = ["Desi", "DesiFibre", "DesiPixel", "resolution_of_band"]

CAMERAS = ("B", "R", "Z")
FWHM_OF_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))
# cards of the header and columns of FIBERMAP that travel as meta
CARDS = ("SURVEY", "PROGRAM", "HPXPIXEL", "TILEID")
FIBRE_COLUMNS = (
    *("TARGETID", "TARGET_RA", "TARGET_DEC", "COADD_FIBERSTATUS", "FIBERSTATUS"),
    *("COADD_EXPTIME", "EXPTIME", "COADD_NUMEXP", "NIGHT", "EXPID", "MJD", "TILEID", "FIBER"),
    *("REF_ID", "REF_CAT", "GAIA_PHOT_G_MEAN_MAG", "EBV"),
)
# [X/H] in SPTAB: mwsall holds the first four, the table of each healpix all of them
SPTAB_ELEMENTS = ("fe", "ca", "c", "mg", "si", "na", "cr", "ni", "al", "ti")
SPTAB_PARAMETERS = ("feh", "alphafe", "log10micro", "teff", "logg")  # order of COVAR
COOL_GRID = "s_rdesi1"  # fits of SPTAB on this grid are not reliable
MINIMUM_SNR = 10.0


class DesiPixel(IntFlag):
    """Bits of ``*_MASK`` (SPECMASK); every one is bad."""

    SOMEBADPIX = 1
    ALLBADPIX = 2
    COSMIC = 4
    LOWFLAT = 8
    BADFIBERFLAT = 16
    BRIGHTSKY = 32
    BADSKY = 64
    BAD2DFIT = 128
    NODATA = 256
    BADFIBER = 512
    BADCOLUMN = 1024


class DesiFibre(IntFlag):
    """Bits of FIBERSTATUS and COADD_FIBERSTATUS."""

    UNASSIGNED = 1 << 0
    STUCKPOSITIONER = 1 << 1
    BROKENFIBER = 1 << 2
    RESTRICTED = 1 << 3
    MISSINGPOSITION = 1 << 8
    BADPOSITION = 1 << 9
    POORPOSITION = 1 << 10
    LOWTRANSMISSION = 1 << 12
    NEARCHARGETRAP = 1 << 13
    VARIABLETHRU = 1 << 14
    LOWEFFTIME = 1 << 15
    BADFIBER = 1 << 16
    BADTRACE = 1 << 17
    BADFLAT = 1 << 18
    BADARC = 1 << 19
    MANYBADCOL = 1 << 20
    MANYREJECTED = 1 << 21
    BADAMPB = 1 << 22
    BADAMPR = 1 << 23
    BADAMPZ = 1 << 24
    BADPETALPOS = 1 << 25
    BADPETALSKY = 1 << 26
    BADPETALSTDSTAR = 1 << 27
    BADPETALFLUXCAL = 1 << 28
    BADPETALSNR = 1 << 29
    BADREADNOISE = 1 << 30


HARMLESS = (
    DesiFibre.STUCKPOSITIONER
    | DesiFibre.RESTRICTED
    | DesiFibre.NEARCHARGETRAP
    | DesiFibre.VARIABLETHRU
)
OF_ONE_CAMERA = {
    "B": DesiFibre.BADAMPB,
    "R": DesiFibre.BADAMPR,
    "Z": DesiFibre.BADAMPZ,
}


class Desi(Survey):
    """DESI spectra, 3600 to 9824 Å in three cameras, and the Milky Way Survey catalogue.

    A spectrum is what one camera saw of one target: where cameras overlap there are two
    measurements. Sky fibres, bad fibres and cameras without a usable pixel are left out.

    The catalogue of RVSpecfit (HDU ``RVTAB``) gives the labels; ``read_labels`` with
    ``extension="SPTAB"`` gives those of FERRE, which are on another scale.
    """

    name = "desi"
    title = "DESI"
    pixel_bits = DesiPixel
    label_columns: ClassVar[Mapping[str, tuple[str, str]]] = {
        "teff": ("teff", "teff_err"),
        "logg": ("logg", "logg_err"),
        "fe_h": ("feh", "feh_err"),
        "alpha_fe": ("alphafe", "alphafe_err"),
        "v_broad": ("vsini", "vsini_err"),
        "v_micro": ("v_micro", "v_micro_err"),
        **{f"{x}_fe": (f"{x}_fe", f"{x}_fe_err") for x in SPTAB_ELEMENTS if x != "fe"},
    }
    key_columns: ClassVar[Mapping[str, str]] = {"star_id": "targetid"}
    required_columns = ("teff", "logg", "feh", "success")
    rv_column = ("vrad", "rv_adop")
    snr_column = ("sn_r", "snr_med")
    table_extension = "RVTAB"

    def recognises(self, file: SurveyFile) -> bool:
        """A FIBERMAP and the flux of a camera with its resolution matrix."""
        names = set(file.extensions)
        return "FIBERMAP" in names and any(
            {f"{c}_WAVELENGTH", f"{c}_FLUX", f"{c}_IVAR", f"{c}_RESOLUTION"} <= names
            for c in CAMERAS
        )

    def spectra(self, file: SurveyFile) -> list[Spectrum]:
        """Return the cameras of every target, in the order of the fibre map.

        Raises
        ------
        InputError
            If no target of the file has a usable pixel.
        """
        fibres = file.arrays("FIBERMAP")
        cameras = [_Camera(file, c) for c in CAMERAS if f"{c}_FLUX" in file.extensions]
        rows = np.flatnonzero(_text(fibres["OBJTYPE"]) == "TGT")
        found = [one for row in rows for one in _cameras(file, fibres, cameras, int(row))]
        if not found:
            raise InputError(
                file.path,
                expected="a target with a usable pixel",
                found=f"{rows.size} targets on {len(fibres['OBJTYPE'])} fibres, all of them bad",
            )
        return found

    def rewritten(self, file: SurveyFile, spectra: Sequence[Spectrum], model: str) -> fits.HDUList:
        """Flux and ivar of the cameras; rows that are not read have ivar 0."""
        hdus = copied(file, model)
        new = {(one.spectrum_id, one.meta["camera"]): one for one in spectra}
        cameras = [_Camera(file, c) for c in CAMERAS if f"{c}_FLUX" in file.extensions]
        fibres = file.arrays("FIBERMAP")
        for camera in cameras:
            hdus[f"{camera.name}_IVAR"].data[:] = 0.0
        for row in np.flatnonzero(_text(fibres["OBJTYPE"]) == "TGT"):
            for one in _cameras(file, fibres, cameras, int(row)):
                name = str(one.meta["camera"])
                made = new[one.spectrum_id, name]
                hdus[f"{name}_FLUX"].data[row] = made.flux
                hdus[f"{name}_IVAR"].data[row] = made.ivar
        return hdus

    def table(self, path: str | Path, extension: int | str | None = None) -> Table:
        """Read RVTAB, or SPTAB with the columns of RVTAB that say which rows to use."""
        table = super().table(path, extension)
        if str(extension).upper() == "SPTAB":
            try:
                rows = read_table(path, "RVTAB")
            except InputError:  # a table of SPTAB alone
                return table
            for name in ("PRIMARY", "RVS_WARN", "RR_SPECTYPE"):
                table[name] = rows[name]
        return table

    def labels(self, table: Table) -> LabelTable:
        """Map RVTAB or SPTAB to registry names and units."""
        table = Table(table, names=[name.lower() for name in table.colnames], copy=False)
        if "covar" in table.colnames:
            _expand_sptab(table)
        return super().labels(table)

    def quality(self, table: Table) -> NDArray:
        """The star's primary observation, no warning, a star by Redrock, success, S/N > 10."""
        good = (column(table, "success") == 1) & (column(table, self._snr(table)) > MINIMUM_SNR)
        if "primary" in table.colnames:
            good &= column(table, "primary") == 1
        if "rvs_warn" in table.colnames:
            good &= column(table, "rvs_warn") == 0
        if "rr_spectype" in table.colnames:
            good &= _text(table["rr_spectype"]) == "STAR"
        if "bestgrid" in table.colnames:
            good &= _text(table["bestgrid"]) != COOL_GRID
        return good

    def _snr(self, table: Table) -> str:
        return next((name for name in self.snr_column if name in table.colnames), "")


def resolution_of_band(
    band: NDArray, wavelength: NDArray, usable: NDArray | None = None
) -> NDArray:
    """Return the resolving power of each pixel from the band of a resolution matrix.

    The resolution is that of the Gaussian with the second central moment of the matrix row, which
    says how a pixel gathers light from its neighbours.

    Parameters
    ----------
    band : ndarray, shape (D, M)
        Diagonals of the matrix from the upper D//2-th to the lower: ``band[k, j]`` is the weight
        of pixel j of the true spectrum in pixel ``j - (D//2 - k)`` of the observed one.
    wavelength : ndarray, shape (M,)
        Angstrom.
    usable : ndarray, shape (M,), bool, optional
        Pixels whose row is to be trusted; the others, and those whose row leaves the spectrum or
        is not a line-spread function, get the value interpolated from their neighbours.

    Returns
    -------
    ndarray, shape (M,)
        R = wavelength / FWHM; all NaN where no row can be used.
    """
    band = np.asarray(band, dtype=float)
    half, size = band.shape[0] // 2, band.shape[1]
    offsets = half - np.arange(band.shape[0])
    rows = np.zeros_like(band)
    for k, offset in enumerate(offsets):  # the weights of row i, which lie on column i + offset
        i = np.arange(max(0, -offset), min(size, size - offset))
        rows[k, i] = band[k, i + offset]
    with np.errstate(invalid="ignore", divide="ignore"):
        total = rows.sum(axis=0)
        mean = offsets @ rows / total
        variance = offsets**2 @ rows / total - mean**2
        sigma = np.sqrt(variance) * np.gradient(wavelength)
    known = (total > 0) & (variance > 0)
    known[:half] = known[size - half :] = False
    if usable is not None:
        known &= usable
    if not known.any():
        return np.full(size, np.nan)
    # beside bad pixels rows do not add up to what the others do, and their widths are arbitrary
    known &= np.abs(total / np.median(total[known]) - 1.0) < 0.03
    sigma = np.interp(wavelength, wavelength[known], sigma[known])
    return wavelength / (FWHM_OF_SIGMA * sigma)


class _Camera:
    """The arrays of one camera, shape (targets, pixels)."""

    def __init__(self, file: SurveyFile, name: str) -> None:
        self.name = name
        self.wavelength = file.image(f"{name}_WAVELENGTH").astype(float)
        self.flux, self.ivar = file.image(f"{name}_FLUX"), file.image(f"{name}_IVAR")
        self.band = file.image(f"{name}_RESOLUTION")
        masked = f"{name}_MASK" in file.extensions
        self.mask = file.image(f"{name}_MASK") if masked else np.zeros(self.flux.shape, int)


def _cameras(
    file: SurveyFile, fibres: Mapping[str, NDArray], cameras: list[_Camera], row: int
) -> Iterator[Spectrum]:
    """What the cameras saw of one target, where the fibre is good and a pixel usable."""
    names = [name for name in FIBRE_COLUMNS if name in fibres]
    meta = {**file.meta(*CARDS), **{name.lower(): _plain(fibres[name][row]) for name in names}}
    status = meta.get("coadd_fiberstatus", meta.get("fiberstatus", 0))
    exposure = (meta[key] for key in ("tileid", "expid") if key in meta)
    parts = [meta[key] for key in ("survey", "program") if key in meta]
    identity = "-".join(str(part) for part in (*parts, meta["targetid"], *exposure))
    for camera in cameras:
        of_others = [bit for name, bit in OF_ONE_CAMERA.items() if name != camera.name]
        if status & ~sum(of_others, HARMLESS):
            continue
        ivar = good_ivar(camera.flux[row], camera.ivar[row], camera.mask[row] != 0)
        if not ivar.any():
            continue
        resolution = resolution_of_band(camera.band[row], camera.wavelength, ivar > 0)
        yield Spectrum(
            wavelength=camera.wavelength,
            flux=camera.flux[row],
            ivar=ivar,
            resolution=resolution,
            frame=Frame.BARYCENTRIC,
            survey=Desi.name,
            spectrum_id=f"{identity}-{camera.name}",
            star_id=str(meta["targetid"]),
            meta={**meta, "camera": camera.name},
        )


def _expand_sptab(table: Table) -> None:
    """Add to SPTAB the errors from COVAR, the microturbulence, and [X/Fe] from ELEM."""
    size = len(SPTAB_PARAMETERS)
    covariance = np.asarray(table["covar"], dtype=float).reshape(-1, size, size)
    with np.errstate(invalid="ignore"):
        sigma = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    for i, name in enumerate(SPTAB_PARAMETERS):
        table[f"{name}_err"] = sigma[:, i]
    table["v_micro"] = 10.0 ** number(column(table, "log10micro"))
    table["v_micro_err"] = np.log(10.0) * table["v_micro"] * table["log10micro_err"]
    abundance = number(np.asarray(table["elem"], dtype=float))
    error = number(np.asarray(table["elem_err"], dtype=float))
    for i, name in list(enumerate(SPTAB_ELEMENTS))[1 : abundance.shape[1]]:
        table[f"{name}_fe"] = abundance[:, i] - abundance[:, 0]
        table[f"{name}_fe_err"] = np.hypot(error[:, i], error[:, 0])


def _text(values: NDArray) -> NDArray:
    array = np.asarray(values)
    return np.char.strip(np.char.decode(array) if array.dtype.kind == "S" else array.astype(str))


def _plain(value: Any) -> Any:
    """A Python number or text instead of a NumPy scalar."""
    return value.strip() if isinstance(value, str) else np.asarray(value).item()
