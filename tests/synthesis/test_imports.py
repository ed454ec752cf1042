"""Grids of other codes, from files written here as their documentation says."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.modeling.physical_models import BlackBody

from spectrolabe.errors import InputError
from spectrolabe.labels import Labels
from spectrolabe.spectra.wavelength import vacuum_to_air
from spectrolabe.synthesis.grid import read_grid, write_grid
from spectrolabe.synthesis.imports import (
    import_korg,
    import_payne_zero,
    import_phoenix,
    import_turbospectrum,
)

TEFF = (5777.0, 4300.0)
VACUUM = 5167.0 + 0.05 * np.arange(2001)


def labels(teff=TEFF) -> Labels:
    values = np.array([[t, 4.0, 0.0, 1.0] for t in teff]).reshape(-1, 4)
    ids = np.array([f"s{i}" for i in range(len(teff))])
    return Labels(("teff", "logg", "fe_h", "v_micro"), values, np.full(values.shape, np.nan), ids)


def line(depth: float) -> np.ndarray:
    return 1 - depth * np.exp(-0.5 * ((VACUUM - 5200.0) / 0.2) ** 2)


def planck(teff: float, unit: str) -> np.ndarray:
    """The surface flux of a black body, by astropy."""
    body = BlackBody(teff * u.K, scale=1.0 * u.Unit("erg / (s cm2 AA sr)"))
    flux = body(VACUUM * u.AA) * np.pi * u.sr
    if unit == "H_nu":
        return (flux / (4 * np.pi)).to_value(
            "erg / (s cm2 Hz)", equivalencies=u.spectral_density(VACUUM * u.AA)
        )
    return flux.to_value(f"erg / (s cm2 {unit})")


def expected(grid, depths=(0.8, 0.5), rtol=1e-5):
    assert np.allclose(grid.wavelength, VACUUM, rtol=0, atol=2e-3)
    for row, (teff, depth) in enumerate(zip(TEFF, depths, strict=True)):
        assert np.allclose(grid.flux[row], line(depth), atol=2e-5)
        assert np.allclose(grid.continuum[row], planck(teff, "AA"), rtol=rtol)
    assert grid.provenance["wavelength_medium"] == "vacuum"


def turbospectrum_files(folder, medium="air") -> list:
    """Format 1965 of bsynb.f: f11.3, f10.5, 1pe12.5."""
    shown = vacuum_to_air(VACUUM) if medium == "air" else VACUUM
    paths = []
    for i, (teff, depth) in enumerate(zip(TEFF, (0.8, 0.5), strict=True)):
        flux, continuum = line(depth), planck(teff, "AA")
        rows = [
            f"{w:11.3f} {f:10.5f} {f * c:12.5E}"
            for w, f, c in zip(shown, flux, continuum, strict=True)
        ]
        paths.append(folder / f"{i}.spec")
        paths[-1].write_text("\n".join(rows) + "\n")
    return paths


def test_turbospectrum(tmp_path):
    grid = import_turbospectrum(
        turbospectrum_files(tmp_path), labels(), provenance={"atmospheres": "MARCS"}
    )
    expected(grid, rtol=5e-5)
    assert grid.provenance["engine"] == "Turbospectrum"
    assert grid.provenance["atmospheres"] == "MARCS"
    write_grid(tmp_path / "GRID", grid)
    assert read_grid(tmp_path / "GRID").labels.star_id.tolist() == ["s0", "s1"]


def test_turbospectrum_in_vacuum(tmp_path):
    paths = turbospectrum_files(tmp_path, "vacuum")
    expected(import_turbospectrum(paths, labels(), medium="vacuum"), rtol=5e-5)
    off = import_turbospectrum(paths, labels()).wavelength - VACUUM
    assert np.allclose(off, 1.45, atol=0.02)  # the shift of air at 5200 Angstrom


def test_turbospectrum_collected(tmp_path):
    at = VACUUM[::50]
    np.savez(
        tmp_path / "many.npz",
        wave_air=vacuum_to_air(VACUUM),
        flux_u16=np.round(np.array([line(0.8), line(0.5)]) / 2e-5).astype(np.uint16),
        flux_scale=2e-5,
        cont=np.array([planck(t, "AA")[::50] for t in TEFF]),
        wcont=vacuum_to_air(at),
        labels=np.array([[t, 4.0, 0.1, 1.2, -0.3] for t in TEFF]),
        label_names=np.array(["Teff", "logg", "FeH", "vmic", "Mg_Fe"]),
        kind=np.array(["random", "grad:sun:base"]),
    )
    grid = import_turbospectrum(tmp_path / "many.npz")
    expected(grid, rtol=1e-4)
    assert grid.labels.names == ("teff", "logg", "fe_h", "v_micro", "mg_fe")
    assert grid.labels["mg_fe"].tolist() == [-0.3, -0.3]
    assert grid.labels.star_id[1] == "1 grad:sun:base"


@pytest.mark.data
def test_turbospectrum_of_the_development_data(shared_data):
    grid = import_turbospectrum(shared_data / "turbospectrum" / "turbospectrum.npz")
    assert len(grid) == 75
    assert "eu_fe" in grid.labels.names
    window = (grid.wavelength > 6561) & (grid.wavelength < 6568)  # the core of H alpha in vacuum
    sun = grid.labels.star_id.tolist().index("40 grad:sun:Al_Fe")
    core = grid.wavelength[window][np.argmin(grid.flux[sun][window])]
    assert core == pytest.approx(6564.61, abs=0.1)


@pytest.mark.parametrize("kind", ["npz", "csv"])
@pytest.mark.parametrize("rectified", [True, False])
def test_korg(tmp_path, kind, rectified):
    paths = []
    for i, (teff, depth) in enumerate(zip(TEFF, (0.8, 0.5), strict=True)):
        continuum = planck(teff, "AA")
        flux = line(depth) * (1 if rectified else continuum)
        columns = {"wavelengths": VACUUM, "flux": flux, "cntm": continuum}
        paths.append(tmp_path / f"{i}.{kind}")
        if kind == "npz":
            np.savez(paths[-1], **columns)
        else:
            rows = [",".join(columns)]
            rows += [",".join(map(repr, map(float, row))) for row in zip(*columns.values())]  # noqa: B905
            paths[-1].write_text("\n".join(rows))
    expected(import_korg(paths, labels(), rectified=rectified))
    with pytest.raises(InputError, match=r"0\.\w+: expected normalised flux.*`rectified`"):
        import_korg(paths, labels(), rectified=not rectified)


def test_payne_zero(tmp_path):
    paths = []
    for i, (teff, depth) in enumerate(zip(TEFF, (0.8, 0.5), strict=True)):
        continuum = 10 * planck(teff, "AA")  # per nm
        paths.append(tmp_path / f"{i}.npz")
        np.savez(
            paths[-1],
            wavelength_nm=VACUUM / 10,
            flux_total=line(depth) * continuum,
            flux_continuum=continuum,
            normalized_flux=line(depth),
            seconds=1.0,
        )
    grid = import_payne_zero(paths, labels())
    expected(grid)
    assert grid.provenance["engine"] == "Payne Zero"


def test_pykurucz(tmp_path):
    paths = []
    for i, (teff, depth) in enumerate(zip(TEFF, (0.8, 0.5), strict=True)):
        continuum = planck(teff, "H_nu")
        paths.append(tmp_path / f"{i}.spec")
        table = np.column_stack((VACUUM / 10, line(depth) * continuum, continuum))
        np.savetxt(paths[-1], table, fmt="%15.8f %11.6E %11.6E")
    grid = import_payne_zero(paths, labels())
    expected(grid)
    assert grid.provenance["engine"] == "pyKurucz"


def phoenix_files(folder) -> tuple[list, object]:
    """Flux per cm and the cards of the page on the library's FITS files."""
    wave = folder / "WAVE_PHOENIX-ACES-AGSS-COND-2011.fits"
    fits.PrimaryHDU(VACUUM).writeto(wave)
    paths = []
    for teff, depth in zip(TEFF, (0.8, 0.5), strict=True):
        hdu = fits.PrimaryHDU((line(depth) * planck(teff, "cm")).astype(np.float32))
        cards = {"PHXTEFF": teff, "PHXLOGG": 4.5, "PHXM_H": -0.5, "PHXALPHA": 0.2, "PHXXI_L": 1.1}
        hdu.header.update(cards)
        paths.append(folder / f"lte0{teff:.0f}-4.50-0.5.PHOENIX-ACES-AGSS-COND-2011-HiRes.fits")
        hdu.writeto(paths[-1])
    return paths, wave


def test_phoenix(tmp_path):
    paths, wave = phoenix_files(tmp_path)
    grid = import_phoenix(paths, wave, (5100.0, 5300.0))
    expected(grid)
    assert grid.labels.names == ("teff", "logg", "m_h", "alpha_m", "v_micro")
    assert grid.labels.values.tolist() == [
        [5777.0, 4.5, -0.5, 0.2, 1.1],
        [4300.0, 4.5, -0.5, 0.2, 1.1],
    ]
    assert grid.flags == (("PSEUDO_CONTINUUM",), ("PSEUDO_CONTINUUM",))
    assert grid.provenance["continuum"] == "upper envelope"
    cut = import_phoenix(paths, wave, (5190.0, 5210.0))
    assert cut.wavelength[[0, -1]].tolist() == pytest.approx([5190.0, 5210.0])
    with pytest.raises(InputError, match=r"window: expected Angstrom between 5167\.0 and 5267\.0"):
        import_phoenix(paths, wave, (8000.0, 8100.0))


def test_phoenix_files_that_do_not_fit(tmp_path):
    paths, wave = phoenix_files(tmp_path)
    fits.PrimaryHDU(np.ones(50)).writeto(tmp_path / "bare.fits")
    with pytest.raises(InputError, match=r"bare\.fits: expected cards .* found no PHXTEFF"):
        import_phoenix(tmp_path / "bare.fits", wave, (5100.0, 5300.0))
    fits.setval(tmp_path / "bare.fits", "PHXTEFF", value=5000.0)
    for card in ("PHXLOGG", "PHXM_H", "PHXALPHA", "PHXXI_L"):
        fits.setval(tmp_path / "bare.fits", card, value=0.0)
    with pytest.raises(InputError, match=r"expected 2001 pixels, found shape \(50,\)"):
        import_phoenix(tmp_path / "bare.fits", wave, (5100.0, 5300.0))
    paths[0].write_text("no FITS file")
    with pytest.raises(InputError, match="expected a FITS image"):
        import_phoenix(paths[0], wave, (5100.0, 5300.0))


def test_a_wrong_unit_is_found(tmp_path):
    np.savez(tmp_path / "a.npz", wavelengths=VACUUM, flux=line(0.5), cntm=planck(5777.0, "cm"))
    with pytest.raises(InputError, match=r"near pi B\(lambda, 5777 K\).*found 1e\+08 times that"):
        import_korg(tmp_path / "a.npz", labels((5777.0,)), rectified=True)


@pytest.mark.parametrize(("name", "value"), [("flux", np.nan), ("flux", -0.1), ("cntm", 0.0)])
def test_numbers_that_are_no_spectrum(tmp_path, name, value):
    columns = {"wavelengths": VACUUM, "flux": line(0.5), "cntm": planck(5777.0, "AA")}
    columns[name][7] = value
    np.savez(tmp_path / "a.npz", **columns)
    with pytest.raises(InputError, match="expected flux >= 0 and a continuum > 0"):
        import_korg(tmp_path / "a.npz", labels((5777.0,)), rectified=True)


def test_labels_in_the_wrong_number(tmp_path):
    paths = turbospectrum_files(tmp_path)
    with pytest.raises(InputError, match="a row for each of 2 files, in their order, found 1 rows"):
        import_turbospectrum(paths, labels((5777.0,)))
    with pytest.raises(InputError, match="found none"):
        import_turbospectrum(paths)


def test_files_of_other_pixels(tmp_path):
    paths = turbospectrum_files(tmp_path)
    rows = paths[1].read_text().splitlines()
    paths[1].write_text("\n".join(rows[:-1]))
    with pytest.raises(InputError, match=r"1\.spec: expected the 2001 wavelengths of 0\.spec"):
        import_turbospectrum(paths, labels())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected columns wavelength, normalised flux, flux, found 0 rows"),
        ("5000 1\n5001 1\n", "expected columns"),
        ("lambda flux\n", "expected columns"),
    ],
)
def test_text_that_is_no_spectrum(tmp_path, content, message):
    path = tmp_path / "a.spec"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        import_turbospectrum(path, labels((5777.0,)))


def test_arrays_that_are_not_there(tmp_path):
    np.savez(tmp_path / "a.npz", wavelength=VACUUM)
    with pytest.raises(InputError, match=r"arrays wavelengths, flux, cntm, found no wavelengths"):
        import_korg(tmp_path / "a.npz", labels((5777.0,)), rectified=True)
    np.savez(tmp_path / "b.npz", wavelengths=VACUUM, flux=VACUUM[:5], cntm=VACUUM)
    with pytest.raises(InputError, match=r"of one star, all of one length, found shapes \(2001,\)"):
        import_korg(tmp_path / "b.npz", labels((5777.0,)), rectified=True)
    (tmp_path / "c.npz").write_bytes(b"PK broken")
    with pytest.raises(InputError, match=r"expected a whole \.npz of plain arrays"):
        import_payne_zero(tmp_path / "c.npz", labels((5777.0,)))
    with pytest.raises(InputError, match=r"d\.npz: expected a spectrum, found no such file"):
        import_payne_zero([tmp_path / "d.npz"], labels((5777.0,)))
    with pytest.raises(InputError, match="expected at least one file"):
        import_payne_zero([], labels(()))
