"""What columns are, in the words of the Virtual Observatory: UCD1+ 1.5 (IVOA, Martinez et al.)."""

from __future__ import annotations

from spectrolabe.labels import LABELS

__all__ = ["ucd_of"]

OF = {
    "star_id": "meta.id;meta.main",
    "spectrum_id": "meta.id",
    "survey": "meta.dataset",
    "file": "meta.id;meta.file",
    "gaia_dr3_source_id": "meta.id.cross",
    "ra": "pos.eq.ra;meta.main",
    "dec": "pos.eq.dec;meta.main",
    "healpix": "pos.healpix",
    "n_spectra": "meta.number",
    "snr": "stat.snr",
    "rv": "spect.dopplerVeloc.opt",
    "rv_residual": "spect.dopplerVeloc",
    "chi2": "stat.fit.chi2",
    "n_pixels": "meta.number",
    "n_clipped": "meta.number",
    "messages": "meta.note",
    "result_flags": "meta.code.qual",
    "flag_warn": "meta.code.qual",
    "flag_bad": "meta.code.qual",
    "teff": "phys.temperature.effective",
    "logg": "phys.gravity",
    "fe_h": "phys.abund.Fe",
    "m_h": "phys.abund.Z",
    "v_micro": "phys.veloc.microTurb",
    "v_broad": "spect.line.broad",
    "age": "time.age",
    "distance": "pos.distance",
    "abs_mag_k": "phys.magAbs;em.IR.K",
}
BEFORE = ("homogenised_e", "homogenised", "raw_e", "raw", "e")


def ucd_of(column: str) -> str:
    """Return the UCD of a column of a catalogue; empty for columns of others.

    Parameters
    ----------
    column : str
        As of `spectrolabe.catalogue.schema.catalogue_columns`, or ``homogenised_`` and such.
    """
    if column in OF:
        return OF[column]
    if column in LABELS:
        return "phys.abund"
    for begin in BEFORE:
        known = ucd_of(column.removeprefix(f"{begin}_")) if column.startswith(f"{begin}_") else ""
        if known:
            error = begin.split("_")[-1] == "e"
            return f"stat.error;{known.partition(';meta.main')[0]}" if error else known
    if column.startswith("rho_"):
        return "stat.correlation"
    if column.endswith("_flags"):
        return "meta.code.qual"
    return "stat.value" if column.endswith("_coverage") else ""
