"""The spectrographs of the surveys: pixels, resolution, light and what goes wrong.

Facts are those of the surveys' own papers, cited at each instrument. Throughputs count everything
from the top of the atmosphere to the detector and are set so that the S/N that a survey states for
a magnitude and an exposure comes out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from spectrolabe.errors import unknown_name
from spectrolabe.labels import read_only
from spectrolabe.sky.atmosphere import airglow, night_sky, telluric_depth
from spectrolabe.spectra.spectrum import Frame
from spectrolabe.spectra.wavelength import air_to_vacuum
from spectrolabe.surveys.lamost import low_resolution

__all__ = ["SURVEYS", "Faults", "SkyArm", "SkyInstrument", "instrument"]

CGS = "1e-17 erg/s/cm2/A"
COUNTS = "counts"
RELATIVE = "relative"
NORMALISED = "normalised"


@dataclass(frozen=True, eq=False)
class SkyArm:
    """One arm of a spectrograph; arrays cannot be written.

    Parameters
    ----------
    name : str
    wavelength : ndarray, shape (P,)
        Vacuum Angstrom, the pixels of the survey's files.
    resolution : ndarray, shape (P,)
        R = wavelength / FWHM.
    throughput : ndarray, shape (P,)
        Detected electrons per photon at the top of the atmosphere.
    sky : ndarray, shape (P,)
        Night sky in photons/s/cm2/arcsec2/Angstrom, of continuum and lines.
    sky_continuum : ndarray, shape (P,)
        The continuum alone.
    telluric : ndarray, shape (P,)
        Optical depth of the atmosphere at the resolution of the arm; 0 in space.
    joins : tuple of float
        Angstrom at which the flux of two cameras was joined to one arm of the file.
    """

    name: str
    wavelength: NDArray
    resolution: NDArray
    throughput: NDArray
    sky: NDArray
    sky_continuum: NDArray
    telluric: NDArray
    joins: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name in ("wavelength", "resolution", "throughput", "sky", "sky_continuum", "telluric"):
            object.__setattr__(self, name, read_only(getattr(self, name), np.float64))


@dataclass(frozen=True)
class Faults:
    """What goes wrong in an exposure.

    Parameters
    ----------
    cosmic : float
        Cosmic rays per pixel and exposure of 1000 s.
    missed : float
        Fraction of them that the pipeline does not see.
    bad_columns : float
        Fraction of pixels on bad columns.
    sky_residual : float
        Standard deviation of the error of the subtracted sky, as a fraction of it.
    telluric_residual : float
        Standard deviation of the error of the corrected optical depth, as a fraction of it.
    calibration : float
        Standard deviation of a smooth multiplicative error of the flux over an arm.
    joint : float
        Standard deviation of the flux of one arm relative to the next.
    throughput : float
        Scatter of the light that enters, in magnitudes: seeing, clouds, centring.
    ivar : float
        Scatter of the stated over the true variance.
    """

    cosmic: float = 1e-4
    missed: float = 0.03
    bad_columns: float = 1e-3
    sky_residual: float = 0.01
    telluric_residual: float = 0.04
    calibration: float = 0.05
    joint: float = 0.01
    throughput: float = 0.2
    ivar: float = 0.03


@dataclass(frozen=True, eq=False)
class SkyInstrument:
    """One survey's telescope, spectrograph and way to observe.

    Parameters
    ----------
    survey : str
        Name as in `spectrolabe.surveys`.
    arms : tuple of SkyArm
        In ascending wavelength.
    frame : Frame
        BARYCENTRIC, or REST where the files are shifted by the measured velocity.
    unit : str
        Of flux: CGS, COUNTS (electrons), RELATIVE (flux-calibrated, arbitrary scale) or NORMALISED.
    area : float
        Effective collecting area, cm2.
    fibre : float
        Solid angle of a fibre on the sky, arcsec2; 0 where there is no sky.
    read_noise : float
        Electrons per pixel of the extracted spectrum and read.
    reads : int
        Reads in one exposure as the survey gives it.
    exposure : float
        Seconds of one such exposure.
    full_well : float
        Electrons per extracted pixel and read beyond which a pixel is saturated.
    band : str
        Magnitude that the survey selects in, a column of the population.
    bright, faint : float
        Limits in that band.
    visits : mapping of int to float
        Probability of the number of exposures of a star.
    mjd : tuple of float
        First and last night of the survey.
    rv_floor, rv_slope : float
        The error of a measured velocity is ``hypot(rv_floor, rv_slope / snr)`` km/s, for a cool
        star of solar metallicity.
    rv_offset : float
        Zero point of the survey's velocities, km/s.
    correlation : float
        Standard deviation in pixels of the kernel that correlates the noise of a resampled
        spectrum; 0 where the pixels are the detector's own.
    faults : Faults
    """

    survey: str
    arms: tuple[SkyArm, ...]
    frame: Frame
    unit: str
    area: float
    fibre: float
    read_noise: float
    reads: int
    exposure: float
    full_well: float
    band: str
    bright: float
    faint: float
    visits: Mapping[int, float]
    mjd: tuple[float, float]
    rv_floor: float
    rv_slope: float
    rv_offset: float = 0.0
    correlation: float = 0.0
    faults: Faults = field(default_factory=Faults)

    @property
    def span(self) -> tuple[float, float]:
        """First and last wavelength of all arms, vacuum Angstrom."""
        return float(self.arms[0].wavelength[0]), float(self.arms[-1].wavelength[-1])


def _hump(wavelength: NDArray, peak: float, low: float, high: float, edge: float = 0.35) -> NDArray:
    """A throughput that falls from its peak in the middle to a fraction of it at both ends."""
    x = np.clip((2 * wavelength - low - high) / (high - low), -1.15, 1.15)
    return peak * (1 - (1 - edge) * np.abs(x) ** 2.5)


def _arm(
    name: str,
    wavelength: NDArray,
    resolution: NDArray | float,
    throughput: NDArray,
    *,
    sky: float | None = 21.0,
    joins: tuple[float, ...] = (),
) -> SkyArm:
    power = np.broadcast_to(np.asarray(resolution, dtype=float), wavelength.shape)
    if sky is None:  # in space
        continuum = lines = depth = np.zeros(wavelength.shape)
    else:
        continuum = night_sky(wavelength, sky)
        lines = airglow(wavelength, power)
        depth = telluric_depth(wavelength, power)
    return SkyArm(name, wavelength, power, throughput, continuum + lines, continuum, depth, joins)


def _apogee() -> SkyInstrument:
    """APOGEE-2 on the 2.5 m telescope, apStar grid.

    Majewski et al. (2017, AJ 154, 94): H = 12.2 reaches S/N 100 per half-resolution pixel in 3
    visits of 1 h; Wilson et al. (2019, PASP 131, 055001): R, three detectors; Nidever et al.
    (2015, AJ 150, 173): velocities to 0.1 km/s. Good pixels of the three chips as ASPCAP uses them.
    """
    grid = 10 ** (4.179 + 6e-6 * np.arange(8575))
    chips = (("blue", 246, 3274), ("green", 3585, 6080), ("red", 6344, 8335))
    arms = []
    for name, first, last in chips:
        wavelength = grid[first:last]
        light = _hump(wavelength, 0.17, wavelength[0], wavelength[-1], 0.7)
        arms.append(_arm(name, wavelength, 22500.0, light, sky=21.0))
    return SkyInstrument(
        survey="apogee",
        arms=tuple(arms),
        frame=Frame.REST,
        unit=CGS,
        area=3.7e4,
        fibre=np.pi,
        read_noise=25.0,
        reads=8,
        exposure=4000.0,
        full_well=1.5e5,
        band="H",
        bright=7.0,
        faint=13.5,
        visits={1: 0.25, 2: 0.15, 3: 0.45, 4: 0.08, 5: 0.04, 6: 0.03},
        mjd=(55800.0, 59150.0),
        rv_floor=0.07,
        rv_slope=4.0,
        correlation=0.5,
        faults=Faults(cosmic=5e-4, bad_columns=4e-3, sky_residual=0.02, telluric_residual=0.05),
    )


def _galah() -> SkyInstrument:
    """GALAH with HERMES on the 3.9 m AAT, four CCDs, pixels equidistant in air.

    De Silva et al. (2015, MNRAS 449, 2604): V = 14 reaches S/N 100 per resolution element in 1 h,
    R = 28 000; Sheinis et al. (2015, JATIS 1, 035002); Kos et al. (2017, MNRAS 464, 1259): the
    resolution falls towards the ends of each CCD.
    """
    ccds = (
        *((4713.0, 0.0455, 0.032), (5648.0, 0.0547, 0.042)),
        *((6478.0, 0.0632, 0.046), (7585.0, 0.0736, 0.038)),
    )
    arms = []
    for number, (first, step, peak) in enumerate(ccds, start=1):
        wavelength = air_to_vacuum(first + step * np.arange(4096))
        x = np.linspace(-1.0, 1.0, 4096)
        light = _hump(wavelength, peak, wavelength[0], wavelength[-1], 0.45)
        power = 28000.0 * (1.03 - 0.10 * x**2 + 0.02 * x)
        arms.append(_arm(f"ccd{number}", wavelength, power, light, sky=20.5))
    return SkyInstrument(
        survey="galah",
        arms=tuple(arms),
        frame=Frame.BARYCENTRIC,
        unit=COUNTS,
        area=1.1e5,
        fibre=np.pi,
        read_noise=8.0,
        reads=3,
        exposure=3600.0,
        full_well=2e5,
        band="G",
        bright=9.0,
        faint=14.3,
        visits={1: 0.93, 2: 0.05, 3: 0.02},
        mjd=(56660.0, 60200.0),
        rv_floor=0.1,
        rv_slope=6.0,
        faults=Faults(cosmic=2e-4, sky_residual=0.02, joint=0.05, telluric_residual=0.08),
    )


def _desi() -> SkyInstrument:
    """DESI on the 4 m Mayall telescope, the Milky Way Survey in bright time.

    DESI Collaboration (2022, AJ 164, 207): R and throughput of the cameras; Guy et al. (2023, AJ
    165, 144): pixels of 0.8 Å, no resampling, so independent noise; Cooper et al. (2023, ApJ 947,
    37): 16 < r < 19.
    """
    cameras = (
        ("b", 3600.0, 2751, (2000.0, 3200.0), 0.13),
        ("r", 5760.0, 2326, (3200.0, 4100.0), 0.20),
        ("z", 7520.0, 2881, (4100.0, 5100.0), 0.22),
    )
    arms = []
    for name, first, count, power, peak in cameras:
        wavelength = first + 0.8 * np.arange(count)
        light = _hump(wavelength, peak, wavelength[0], wavelength[-1], 0.45)
        arms.append(_arm(name, wavelength, np.linspace(*power, count), light, sky=20.3))
    return SkyInstrument(
        survey="desi",
        arms=tuple(arms),
        frame=Frame.BARYCENTRIC,
        unit=CGS,
        area=8.66e4,
        fibre=1.77,
        read_noise=6.0,
        reads=1,
        exposure=600.0,
        full_well=1.5e5,
        band="r",
        bright=14.0,
        faint=19.0,
        visits={1: 0.75, 2: 0.2, 3: 0.05},
        mjd=(59197.0, 59745.0),
        rv_floor=0.9,
        rv_slope=30.0,
        rv_offset=0.3,
        faults=Faults(cosmic=3e-4, calibration=0.03, joint=0.01),
    )


def _gaia_rvs() -> SkyInstrument:
    """Gaia RVS, mean spectra of DR3: some 20 transits of three CCDs of 4.4 s, drawn together.

    Cropper et al. (2018, A&A 616, A5): R = 11 500, aperture 1.45 m x 0.50 m, 846-870 nm; Katz et
    al. (2023, A&A 674, A5). The table has 0.1 Å steps and native pixels are 0.245 Å: its noise is
    correlated.
    """
    wavelength = 8460.0 + 0.1 * np.arange(2401)
    light = _hump(wavelength, 0.40, 8440.0, 8720.0, 0.85)
    return SkyInstrument(
        survey="gaia_rvs",
        arms=(_arm("rvs", wavelength, 11500.0, light, sky=None),),
        frame=Frame.REST,
        unit=NORMALISED,
        area=7250.0,
        fibre=0.0,
        read_noise=12.0,
        reads=1,
        exposure=264.0,
        full_well=1e7,
        band="G",
        bright=6.0,
        faint=13.5,
        visits={1: 1.0},
        mjd=(56863.0, 57902.0),
        rv_floor=0.12,
        rv_slope=12.0,
        correlation=1.0,
        faults=Faults(cosmic=0.0, sky_residual=0.0, bad_columns=5e-4, calibration=0.01),
    )


def _lamost_lrs() -> SkyInstrument:
    """LAMOST low resolution: two arms joined, steps of 1e-4 in log10.

    Cui et al. (2012, RAA 12, 1197), Zhao et al. (2012, RAA 12, 723): fibres of 3.3 arcsec, total
    efficiency of a few per cent; Luo et al. (2015, RAA 15, 1095): relative flux calibration, arms
    joined at 5700 to 5900 Å; Xiang et al. (2015, MNRAS 448, 822): velocities to 5 km/s.
    """
    wavelength = 10 ** (3.5682 + 1e-4 * np.arange(3909))
    blue = _hump(wavelength, 0.011, 3600.0, 6000.0, 0.2)
    red = _hump(wavelength, 0.018, 5600.0, 9200.0, 0.25)
    light = np.where(wavelength < 5800.0, blue, red)
    power = low_resolution(wavelength)
    arm = _arm("joined", wavelength, power, light, sky=20.8, joins=(5800.0,))
    return SkyInstrument(
        *("lamost_lrs", (arm,), Frame.BARYCENTRIC, RELATIVE),
        area=1.2e5,
        fibre=8.55,
        read_noise=8.0,
        reads=3,
        exposure=4500.0,
        full_well=3e5,
        band="r",
        bright=9.5,
        faint=17.5,
        visits={1: 0.8, 2: 0.15, 3: 0.05},
        mjd=(55858.0, 59750.0),
        rv_floor=3.0,
        rv_slope=120.0,
        rv_offset=-4.5,
        faults=Faults(
            calibration=0.12,
            joint=0.03,
            sky_residual=0.03,
            telluric_residual=0.15,
            ivar=0.1,
            throughput=0.4,
        ),
    )


def _sdss_boss() -> SkyInstrument:
    """BOSS spectrographs on the 2.5 m telescope, two cameras joined, steps of 1e-4 in log10.

    Smee et al. (2013, AJ 146, 32): R of 1560 at 3700 Å to 2270 at 6000 Å and 1850 at 6000 Å to 2650
    at 9000 Å, fibres of 2 arcsec, throughput; Dawson et al. (2013, AJ 145, 10): exposures of 900 s.
    """
    wavelength = 10 ** (3.5523 + 1e-4 * np.arange(4648))
    cameras = wavelength < 6000.0
    light = np.where(
        cameras,
        _hump(wavelength, 0.15, 3500.0, 6300.0, 0.15),
        _hump(wavelength, 0.20, 5700.0, 10500.0, 0.15),
    )
    power = np.where(
        cameras,
        np.interp(wavelength, [3700.0, 6000.0], [1560.0, 2270.0]),
        np.interp(wavelength, [6000.0, 9000.0], [1850.0, 2650.0]),
    )
    arm = _arm("joined", wavelength, power, light, sky=21.3, joins=(6000.0,))
    return SkyInstrument(
        *("sdss_boss", (arm,), Frame.BARYCENTRIC, CGS),
        area=3.7e4,
        fibre=np.pi,
        read_noise=5.0,
        reads=4,
        exposure=3600.0,
        full_well=1.5e5,
        band="g",
        bright=14.0,
        faint=19.5,
        visits={1: 0.95, 2: 0.05},
        mjd=(55176.0, 58932.0),
        rv_floor=2.0,
        rv_slope=90.0,
        faults=Faults(calibration=0.05, joint=0.02),
    )


SURVEYS: dict[str, SkyInstrument] = {
    one.survey: one
    for one in (_apogee(), _galah(), _desi(), _gaia_rvs(), _lamost_lrs(), _sdss_boss())
}
"""The instruments of the synthetic sky by the name of their survey."""


def instrument(survey: str) -> SkyInstrument:
    """Return the instrument of a survey.

    Raises
    ------
    InputError
        If the synthetic sky has no such survey; the message lists those it has.
    """
    if survey not in SURVEYS:
        raise unknown_name("survey", survey, SURVEYS, kind="survey of the synthetic sky")
    return SURVEYS[survey]
