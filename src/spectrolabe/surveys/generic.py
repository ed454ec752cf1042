"""Spectra of anyone: tables, 1-D images, and whatever specutils can load.

What survey readers know of their instrument has to come with the file here, and nothing has a
default: MEDIUM (air or vacuum), FRAME (rest, barycentric or observed), RV in km/s (a number or
unknown) and R (or FWHM in Å); STAR_ID is optional. Keywords are cards of a FITS header, entries of
the metadata of ECSV or Parquet, or first lines of CSV::

    # MEDIUM = air
    # FRAME = barycentric
    # RV = -12.5
    # R = 5000
    # WAVEUNIT = Angstrom
    wavelength,flux,error
    4000.0,1.02,0.01

or they are in ``spectra.toml`` beside the file, see `spectrolabe.surveys.keywords`. WAVEUNIT is for
wavelengths whose column or axis has no unit; SNR for files without errors.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from astropy import units
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

from spectrolabe.errors import InputError
from spectrolabe.labels import LABELS
from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.spectra.observe import air_to_vacuum
from spectrolabe.surveys.base import Survey, column, good_ivar
from spectrolabe.surveys.files import SurveyFile
from spectrolabe.surveys.keywords import Keywords

__all__ = ["Generic", "RegistryLabels", "to_angstrom", "to_vacuum"]

# formats of specutils that are left alone: two guess, and files of that kind are read here from
# what they declare; two put every wavelength one pixel (69 km/s) too far red in specutils 2.4.0
NOT_BY_SPECUTILS = {"tabular-fits", "wcs1d-fits", "SDSS-I/II spSpec", "SDSS spPlate"}


class RegistryLabels(Survey):
    """A survey without a catalogue of its own: its label table has the names of the registry.

    Columns ``teff``, ``e_teff``, ``fe_h``, ...; one of ``star_id``, ``file`` and ``spectrum_id``;
    if wanted ``rv`` in km/s, ``snr`` and ``split``.
    """

    label_columns: ClassVar[Mapping[str, tuple[str, str]]] = {
        name: (name, f"e_{name}") for name in LABELS if name != "rv"
    }
    key_columns: ClassVar[Mapping[str, str]] = {
        "star_id": "star_id",
        "file": "file",
        "spectrum_id": "spectrum_id",
    }
    rv_column = ("rv",)
    snr_column = ("snr",)

    def _check_columns(self, table: Table) -> None:
        names = table.colnames
        keys = [name for name in self.key_columns.values() if name in names]
        if not keys or not any(name in names for name in self.label_columns):
            raise InputError(
                table.meta.get("file", "label table"),
                expected=f"columns {' or '.join(self.key_columns.values())}, and labels by name "
                f"({', '.join(list(self.label_columns)[:5])}, ...; e_teff for the error of teff)",
                found=", ".join(names[:40]),
            )


class Generic(RegistryLabels):
    """Tables with columns wavelength, flux and ivar or error; 1-D images; specutils at last.

    A table (FITS, ECSV, CSV, Parquet, VOTable) may have a column ``resolution``, R for each pixel.
    A FITS image has a linear or log-linear wavelength axis and may have its errors in an extension
    IVAR or ERROR. Without errors the keyword SNR must say what to assume. A pixel is bad where
    ivar is 0 or error is NaN or infinite.
    """

    name = "generic"
    title = "Generic (a table with columns wavelength and flux, or a 1-D image)"

    def recognises(self, file: SurveyFile) -> bool:
        """Columns wavelength and flux, a 1-D image with an axis, or a format of specutils."""
        if file.table is not None:
            return _is_spectrum(file.columns())
        return (
            _table_extension(file) is not None
            or _image_header(file) is not None
            or _specutils_format(file) != ""
        )

    def spectra(self, file: SurveyFile) -> list[Spectrum]:
        """Return the spectrum of a table or image; as many as specutils finds otherwise."""
        if file.table is not None:
            return [self._table(file, *_table_columns(file.table), file.table.meta)]
        extension = _table_extension(file)
        if extension is not None:
            assert file.hdus is not None
            header = file.hdus[extension].header
            return [self._table(file, *_fits_columns(file, extension), header, file.header)]
        if _image_header(file) is not None:
            return [self._image(file)]
        return self._specutils(file)

    def _table(
        self, file: SurveyFile, data: dict[str, NDArray], unit: str, *sources: Mapping
    ) -> Spectrum:
        keywords = Keywords.of(file.path, *sources)
        wavelength = to_angstrom(data["wavelength"], unit or keywords.text("WAVEUNIT"), file)
        ivar = _ivar(data, keywords)
        return self._spectrum(
            file, keywords, wavelength, data["flux"], ivar, data.get("resolution")
        )

    def _image(self, file: SurveyFile) -> Spectrum:
        header = file.header
        keywords = Keywords.of(file.path, header)
        unit = str(header.get("CUNIT1", "")).strip() or keywords.text("WAVEUNIT")
        wavelength = to_angstrom(_axis(file), unit, file)
        data = {"flux": file.image(0).ravel()}
        for name in ("ivar", "error"):
            if name.upper() in file.extensions:
                data[name] = file.image(name.upper()).ravel()
        return self._spectrum(file, keywords, wavelength, data["flux"], _ivar(data, keywords))

    def _specutils(self, file: SurveyFile) -> list[Spectrum]:
        import specutils
        from astropy.nddata import InverseVariance

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of units and WCS: the arrays are checked below
            loaded = specutils.Spectrum.read(file.hdus, format=_specutils_format(file))
        sources = [x for x in (loaded.meta, loaded.meta.get("header")) if isinstance(x, Mapping)]
        keywords = Keywords.of(file.path, *sources, file.header)
        wavelength = loaded.spectral_axis.to_value(units.AA, equivalencies=units.spectral())
        flux = np.atleast_2d(loaded.flux.value)
        if loaded.uncertainty is None:
            ivar = np.stack([_ivar({"flux": row}, keywords) for row in flux])
        else:
            ivar = np.atleast_2d(loaded.uncertainty.represent_as(InverseVariance).array)
        bad = np.zeros(flux.shape, bool) if loaded.mask is None else np.atleast_2d(loaded.mask)
        return [
            self._spectrum(
                file,
                keywords,
                wavelength,
                flux[i],
                good_ivar(flux[i], ivar[i], bad[i]),
                number=i if len(flux) > 1 else None,
            )
            for i in range(len(flux))
        ]

    def _spectrum(
        self,
        file: SurveyFile,
        keywords: Keywords,
        wavelength: NDArray,
        flux: NDArray,
        ivar: NDArray,
        resolution: NDArray | None = None,
        *,
        number: int | None = None,
    ) -> Spectrum:
        wavelength = to_vacuum(wavelength, keywords)
        identity = file.path.name.removesuffix(".gz").rsplit(".", 1)[0]
        return Spectrum(
            wavelength=wavelength,
            flux=flux,
            ivar=ivar,
            resolution=keywords.resolution(wavelength) if resolution is None else resolution,
            frame=Frame(keywords.choice("FRAME", [frame.value for frame in Frame])),
            rv=keywords.number("RV", unknown=True),
            survey=self.name,
            spectrum_id=identity if number is None else f"{identity}:{number}",
            star_id=keywords.text("STAR_ID") if "STAR_ID" in keywords else identity,
            meta=file.meta("OBJECT", "RA", "DEC", "INSTRUME", "TELESCOP"),
        )


def to_angstrom(wavelength: NDArray, unit: str, file: SurveyFile) -> NDArray:
    """Return wavelengths in Å; a unit that is no length is an error."""
    try:
        return np.asarray(wavelength, dtype=float) * units.Unit(unit).to(units.AA)
    except (ValueError, units.UnitConversionError):
        raise InputError(
            file.path, expected="wavelengths in Angstrom, nm or um", found=f"the unit {unit!r}"
        ) from None


def to_vacuum(wavelength: NDArray, keywords: Keywords) -> NDArray:
    """Return vacuum wavelengths, whichever MEDIUM says they are in."""
    in_air = keywords.choice("MEDIUM", ("air", "vacuum")) == "air"
    return air_to_vacuum(wavelength) if in_air else wavelength


def _is_spectrum(columns: list[str]) -> bool:
    return {"wavelength", "flux"} <= {name.lower() for name in columns}


def _table_extension(file: SurveyFile) -> int | None:
    found = (i for i in range(len(file.extensions)) if _is_spectrum(file.columns(i)))
    return next(found, None)


def _table_columns(table: Table) -> tuple[dict[str, NDArray], str]:
    """Columns by lower-case name, and the unit of the wavelength, '' when it has none."""
    names = {name.lower(): name for name in table.colnames}
    data = {
        key: column(table, names[key])
        for key in ("wavelength", "flux", "ivar", "error", "resolution")
        if key in names
    }
    return data, str(table[names["wavelength"]].unit or "")


def _fits_columns(file: SurveyFile, extension: int) -> tuple[dict[str, NDArray], str]:
    assert file.hdus is not None
    data = {key.lower(): values.ravel() for key, values in file.arrays(extension).items()}
    header = file.hdus[extension].header
    names = [name.lower() for name in file.columns(extension)]
    return data, str(header.get(f"TUNIT{names.index('wavelength') + 1}", "")).strip()


def _ivar(data: Mapping[str, NDArray], keywords: Keywords) -> NDArray:
    """Inverse variance from the column ivar, the column error, or the S/N to assume."""
    if "ivar" in data and "error" in data:
        raise InputError(keywords.path, expected="either ivar or error", found="both")
    if "ivar" in data:
        return data["ivar"]
    flux = data["flux"]
    if "error" not in data:
        error = flux / keywords.number("SNR")
        return np.where(error > 0, 1 / np.where(error > 0, error, 1.0) ** 2, 0.0)
    error = data["error"]
    if (error <= 0).any():
        raise InputError(
            keywords.path,
            expected="positive errors",
            found=f"{int(np.sum(error <= 0))} that are not",
            fix="Write NaN or inf where a pixel must not be used.",
        )
    return np.where(np.isfinite(error), 1 / np.where(np.isfinite(error), error, 1.0) ** 2, 0.0)


def _image_header(file: SurveyFile) -> fits.Header | None:
    """The primary header of a 1-D image with a wavelength axis."""
    header = file.header
    one_dimensional = header.get("NAXIS", 0) >= 1 and all(
        header[f"NAXIS{i}"] == 1 for i in range(2, header["NAXIS"] + 1)
    )
    has_axis = "CRVAL1" in header and ("CDELT1" in header or "CD1_1" in header)
    multispec = str(header.get("CTYPE1", "")).upper().startswith("MULTISPE")
    return header if one_dimensional and has_axis and not multispec else None


def _axis(file: SurveyFile) -> NDArray:
    """Values along the axis: linear, or 10 to that power where the header says so."""
    header: Any = file.header
    if "CRPIX1" not in header:
        raise InputError(
            file.path,
            expected="CRPIX1, the pixel (from 1) where the wavelength is CRVAL1",
            found="none",
            fix="Write it in the header; IRAF means CRPIX1 = 1.",
        )
    step = header["CD1_1"] if "CD1_1" in header else header["CDELT1"]
    values = header["CRVAL1"] + step * (np.arange(header["NAXIS1"]) + 1 - header["CRPIX1"])
    kind = str(header.get("CTYPE1", "")).strip().upper()
    if header.get("DC-FLAG") == 1 or kind == "LOG-LINEAR":
        return 10.0**values
    if kind.endswith("-LOG"):  # FITS paper III, eq. 5: linear in ln(wavelength) at CRPIX1
        return header["CRVAL1"] * np.exp(values / header["CRVAL1"] - 1.0)
    return values


def _specutils_format(file: SurveyFile) -> str:
    """The name by which specutils knows a FITS file that no survey here knows; '' if none."""
    from spectrolabe.surveys import SURVEYS

    if file.hdus is None or importlib.util.find_spec("specutils") is None:
        return ""
    if any(s.recognises(file) for s in SURVEYS.values() if not isinstance(s, Generic)):
        return ""
    import specutils
    from astropy.io.registry import identify_format

    found = identify_format("read", specutils.Spectrum, None, None, [file.hdus], {})
    return next((name for name in found if name not in NOT_BY_SPECUTILS), "")
