"""What ``spectrolabe simulate`` needs: which stars, and which surveys see them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from spectrolabe.config.fields import Count, Positive, Strict

__all__ = [
    "BinariesConfig",
    "ClustersConfig",
    "PopulationConfig",
    "SkyConfig",
    "SurveyConfig",
    "SurveysConfig",
]

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Width = Annotated[float, Field(ge=0.0)]
Number = Annotated[int, Field(ge=0)]


class ClustersConfig(Strict):
    """Open clusters: stars of one composition, age and distance.

    Parameters
    ----------
    count : int
    members : int
        Stars of each.
    age : (low, high)
        Gyr; evenly in the logarithm.
    scatter : float
        Standard deviation of each abundance from star to star, dex. Open clusters are homogeneous
        to 0.03 dex or better (Bovy 2016, ApJ 817, 49).
    """

    count: Number = 0
    members: Count = 40
    age: tuple[Positive, Positive] = (0.3, 8.0)
    scatter: Width = 0.0


class BinariesConfig(Strict):
    """Wide binaries: two stars of one composition, age and distance, and different temperatures.

    Parameters
    ----------
    count : int
        Pairs.
    scatter : float
        Standard deviation of the difference of each abundance, dex.
    """

    count: Number = 0
    scatter: Width = 0.0


class PopulationConfig(Strict):
    """Which stars; see `spectrolabe.sky.population` for the relations and their sources.

    Parameters
    ----------
    stars : int
        Field stars; those of clusters and binaries come on top.
    giants : float
        Share of the field stars that are giants.
    thick, halo : float
        Share of the thick disc and of the halo.
    magnitude : (low, high)
        Range of the observed G magnitude.
    teff, logg, fe_h : (low, high)
        Stars outside are not drawn. At most what spectra can be computed for.
    scatter : float
        Intrinsic scatter of the abundances about their trends, times the observed one.
    label_table : str
        A Parquet or CSV table with columns ``teff``, ``logg``, ``fe_h`` and any others of the
        registry: field stars take their labels from its rows instead of from the relations.
    """

    stars: Count = 1000
    giants: Share = 0.4
    thick: Share = 0.25
    halo: Share = 0.05
    magnitude: tuple[float, float] = (9.0, 17.0)
    teff: tuple[float, float] = (4250.0, 7500.0)
    logg: tuple[float, float] = (0.5, 5.0)
    fe_h: tuple[float, float] = (-2.5, 0.5)
    scatter: Width = 1.0
    label_table: str = ""

    @model_validator(mode="after")
    def _ranges(self) -> PopulationConfig:
        for name in ("magnitude", "teff", "logg", "fe_h"):
            low, high = getattr(self, name)
            if not low < high:
                raise ValueError(f"{name} must be (low, high) with low < high")
        for name, low, high in (("teff", 4250, 7500), ("logg", 0.5, 5.0), ("fe_h", -2.5, 0.5)):
            if getattr(self, name)[0] < low or getattr(self, name)[1] > high:
                raise ValueError(f"{name} must be within {low} to {high}")
        if self.thick + self.halo > 1:
            raise ValueError("thick + halo must not exceed 1")
        return self


class SurveyConfig(Strict):
    """What one survey sees.

    Parameters
    ----------
    share : float
        Probability that it sees a star within its magnitudes; 0 leaves the survey out.
    magnitude : (low, high)
        In the survey's own band; the default is every star that its instrument can take.
    exposure : float
        Exposure times relative to the survey's own: the S/N grows as its root or faster.
    visits : int
        Exposures of each star; 0 draws their number as the survey has it.
    """

    share: Share = 0.5
    magnitude: tuple[float, float] = (-10.0, 40.0)
    exposure: Positive = 1.0
    visits: Annotated[int, Field(ge=0, le=16)] = 0


class SurveysConfig(Strict):
    """The surveys of the synthetic sky, by the names they have in `spectrolabe.surveys`."""

    apogee: SurveyConfig = SurveyConfig()
    galah: SurveyConfig = SurveyConfig()
    desi: SurveyConfig = SurveyConfig()
    gaia_rvs: SurveyConfig = SurveyConfig()
    lamost_lrs: SurveyConfig = SurveyConfig()
    sdss_boss: SurveyConfig = SurveyConfig()

    @model_validator(mode="after")
    def _mean_spectra(self) -> SurveysConfig:
        if self.gaia_rvs.visits > 1:
            raise ValueError(
                "gaia_rvs.visits must be 0 or 1: its spectra are means of all transits"
            )
        return self


class SkyConfig(Strict):
    """Everything that ``spectrolabe simulate`` needs.

    Parameters
    ----------
    seed : int
        The same seed gives the same sky.
    spectra : str
        Where intrinsic spectra come from: ``library``, the one that travels with the package, or
        the folder of another (see `spectrolabe.sky.library`): milliseconds a star. Empty: each star
        is synthesised, a second or two.
    batch : int
        Stars that are computed and written together.
    """

    seed: int = 0
    spectra: str = "library"
    batch: Count = 200
    population: PopulationConfig = PopulationConfig()
    clusters: ClustersConfig = ClustersConfig()
    binaries: BinariesConfig = BinariesConfig()
    surveys: SurveysConfig = SurveysConfig()

    @model_validator(mode="after")
    def _someone_looks(self) -> SkyConfig:
        surveys = [getattr(self.surveys, name) for name in SurveysConfig.model_fields]
        if not any(survey.share > 0 for survey in surveys):
            raise ValueError("at least one survey must have a share above 0")
        return self
