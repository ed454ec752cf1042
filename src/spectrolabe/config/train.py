"""What ``spectrolabe train`` needs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from spectrolabe.config.fields import Count, Fraction, Positive, Strict
from spectrolabe.config.stream import StreamConfig

__all__ = [
    "AugmentationConfig",
    "DataConfig",
    "DenoiserConfig",
    "DenoiserTrainConfig",
    "EncoderConfig",
    "HeadConfig",
    "SkyTrainConfig",
    "TrainConfig",
    "TrainingConfig",
    "TransferConfig",
    "TwinsConfig",
]


class DataConfig(Strict):
    """What to learn from.

    Parameters
    ----------
    store : str or tuple of str
        A folder written by ``spectrolabe ingest``, or several, each of its own label catalogue and
        known by the name of its folder.
    reference : str
        The store whose label scale is kept. Each other one gets an offset for every label, learnt
        with the weights; empty = labels of all stores are taken as they are.
    labels : tuple of str
        Registry names to learn; a star that lacks some still teaches the others. A model that
        starts from another one predicts all labels of that one, whatever is learnt here.
    split : str
        Rows whose split has this name are used; empty = all rows.
    selection, calibration : float
        Fractions of the stars kept aside to stop training early, and to recalibrate the
        uncertainties. They never overlap with each other or with the stars trained on.
    folds : int
        0: one model with the two fractions above. K >= 2: cross-fitting; K models, each trained
        without one fold of the stars and recalibrated on it, answer together.
    quality_cut : bool
        Only spectra whose labels pass the survey's recommended cut.
    min_snr : float
        Spectra with a lower S/N are left out.
    """

    store: str | tuple[str, ...]
    reference: str = ""
    labels: tuple[str, ...] = ("teff", "logg", "fe_h")
    split: str = ""
    selection: Fraction = 0.1
    calibration: Fraction = 0.15
    folds: Annotated[int, Field(ge=0)] = 0
    quality_cut: bool = True
    min_snr: float = 0.0

    @model_validator(mode="after")
    def _room_to_train(self) -> DataConfig:
        if self.selection + self.calibration >= 0.9:
            raise ValueError("selection + calibration must leave stars to train on (< 0.9)")
        if self.folds == 1:
            raise ValueError("folds must be 0 (one model) or at least 2")
        return self

    @model_validator(mode="after")
    def _reference_is_a_store(self) -> DataConfig:
        names = [Path(store).name for store in self.stores]
        if len(set(names)) < len(names) or not names:
            raise ValueError(f"stores must be folders of different names, found {names}")
        if self.reference and self.reference not in names:
            raise ValueError(f"reference must be one of the stores {names}")
        return self

    @property
    def stores(self) -> tuple[str, ...]:
        """The stores, also when there is one."""
        return (self.store,) if isinstance(self.store, str) else self.store


class HeadConfig(Strict):
    """The last layer and its loss; see `spectrolabe.models.heads`.

    Parameters
    ----------
    kind : str
        ``gaussian``: mean, standard deviation and correlation. ``binned``: a histogram of each
        label, with the same correlation.
    bins : int
        Of each label, for ``binned``. A bin should be no wider than the errors hoped for.
    asymmetric : bool
        Histograms learn by the asymmetric loss, which looks away from stars that are easy.
    gamma_positive, gamma_negative : float
        Its focusing exponents: of the bins with the label, and of those without it.
    embedding : float
        Weight of the loss that puts stars of like labels side by side in the embedding; 0 = none.
    embedding_width : int
        Numbers of the embedding, where it has a weight.
    """

    kind: Literal["gaussian", "binned"] = "gaussian"
    bins: Annotated[int, Field(ge=8)] = 64
    asymmetric: bool = False
    gamma_positive: Annotated[float, Field(ge=0.0)] = 1.0
    gamma_negative: Annotated[float, Field(ge=0.0)] = 4.0
    embedding: Annotated[float, Field(ge=0.0)] = 0.0
    embedding_width: Count = 32

    @model_validator(mode="after")
    def _asymmetric_needs_bins(self) -> HeadConfig:
        if self.asymmetric and self.kind != "binned":
            raise ValueError("asymmetric is a loss of histograms: kind must be 'binned'")
        return self


class CompactConfig(Strict):
    """Size of compact spectra; see `spectrolabe.models.compact`.

    Parameters
    ----------
    functions : int
        Functions of wavelength that all spectra are sums of.
    labels, elements : int
        Labels that they depend on, and how many of them are abundances relative to iron.
    width, own : int
        Hidden widths of the network of all labels, and of that of each element.
    emulators : tuple of str
        Those that the spectra are of; a fit ends with theirs.
    """

    functions: Count = 256
    labels: Count = 35
    elements: Count = 30
    width: Count = 192
    own: Count = 64
    emulators: tuple[str, ...] = ()


class EncoderConfig(Strict):
    """Size of the encoder; see `spectrolabe.models.encoder`.

    Parameters
    ----------
    width, latents, blocks, heads, token_layers : int
    filters : int
        By how many filters the pixels of a token are read; a wavelength mixes them.
    shortest_period : float
        Of the encoding of wavelength, in ln(wavelength): about that of two tokens.
    dropout : float
    compact : CompactConfig, optional
        Size of the compact spectra that a first fit is made with, `spectrolabe.models.first_fit`;
        none without. A training on the synthetic sky fills this in.
    head : HeadConfig
    """

    width: Count = 64
    filters: Count = 1
    shortest_period: Positive = 0.012
    latents: Count = 12
    blocks: Count = 2
    heads: Count = 4
    token_layers: Annotated[int, Field(ge=0)] = 1
    dropout: Fraction = 0.1
    compact: CompactConfig | None = None
    head: HeadConfig = HeadConfig()

    @model_validator(mode="after")
    def _heads_divide(self) -> EncoderConfig:
        if self.width % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide width ({self.width})")
        return self


class AugmentationConfig(Strict):
    """How a training spectrum is varied each time it is seen.

    Parameters
    ----------
    velocity : float
        Standard deviation of the velocity error, km/s.
    noise : float
        Largest added noise in units of the spectrum's own.
    tilt : float
        Standard deviation of a smooth multiplicative distortion of the continuum.
    drop_pixels, drop_tokens : float
        Mean fraction of pixels, and fraction of tokens, that are hidden.
    halve : float
        Fraction of spectra shown with pairs of pixels merged.
    cut : float
        Fraction of spectra of which only a random contiguous part is shown.
    versions : int
        How many variations of a spectrum there are, which epochs take in turn; without end if 0.
        First fits are made once of each.
    """

    velocity: Annotated[float, Field(ge=0.0)] = 7.0
    noise: Annotated[float, Field(ge=0.0)] = 1.0
    tilt: Annotated[float, Field(ge=0.0)] = 0.15
    drop_pixels: Fraction = 0.05
    drop_tokens: Fraction = 0.1
    halve: Fraction = 0.0
    cut: Fraction = 0.0
    versions: Annotated[int, Field(ge=0)] = 0


class TrainingConfig(Strict):
    """The one training loop."""

    seed: int = 0
    epochs: Count = 300
    batch_size: Count = 16
    learning_rate: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.05
    ema: Fraction = 0.998
    patience: Annotated[int, Field(ge=0)] = 0
    """Epochs without improvement on the selection stars before stopping; 0 = never stop early."""
    checkpoint_minutes: Positive = 2.0
    mixed_precision: str = "no"


class CompactMaking(Strict):
    """How compact spectra are made; see `spectrolabe.training.compact`.

    Parameters
    ----------
    functions, width, own : int
        See `CompactConfig`.
    few : int
        Stars with differential spectra whose singular vectors are the functions.
    sloped, plain : int
        Stars with and without differential spectra that the network learns from.
    training : TrainingConfig
        ``batch_size`` is the number of stars with differential spectra; there are three times as
        many without.
    """

    functions: Count = 256
    width: Count = 192
    own: Count = 64
    few: Count = 240
    sloped: Count = 2800
    plain: Count = 44_000
    training: TrainingConfig = TrainingConfig(
        epochs=80, batch_size=32, learning_rate=2e-3, weight_decay=1e-4, ema=0.999
    )


class TransferConfig(Strict):
    """What a model starts from, and what of it may change; see `spectrolabe.training.transfer`.

    Parameters
    ----------
    start : str
        A run, a folder of a model or the name of a released one; empty = random weights.
    recipe : str
        ``full``: all weights learn. ``head``: the head alone. ``lowrank``: the head, and a change
        of low rank of every matrix of the trunk.
    rank : int
        Of that change.
    observed : bool
        Whether the first fit learns what the stars show that computed spectra do not, see
        `spectrolabe.training.observed`.
    sky_weight : float
        Weight of a batch of the simulated sky, where there is a sky.
    sky_every : int
        Batches of the store for each of the sky.
    """

    start: str = ""
    recipe: Literal["full", "head", "lowrank"] = "full"
    rank: Count = 4
    observed: bool = True
    sky_weight: Annotated[float, Field(ge=0.0)] = 0.0
    sky_every: Count = 1

    @model_validator(mode="after")
    def _recipes_need_a_start(self) -> TransferConfig:
        if not self.start and self.recipe != "full":
            raise ValueError(f"recipe {self.recipe!r} needs a start")
        return self


class TwinsConfig(Strict):
    """How a model learns from pairs of visits, see `spectrolabe.training.twin_run`.

    Parameters
    ----------
    flux : float
        Weight of the flux of the deeper spectrum.
    labels : float
        Weight of the labels.
    teacher_epochs : int
        Over the stars that have labels, by which the model first learns these alone; what it then
        says of deeper spectra teaches the stars that have none. 0: they learn flux alone.
    left_in : bool
        The visit stays in the mean that it is paired with. For measuring what that pretends.
    injected : float
        Share of visits whose own noise is split instead of being paired.
    noise : float
        Most noise that is added to a visit, in units of its own.
    strange : float
        Copies of visits and their twins, per visit, with structure that no star has: flux alone is
        learnt from them, that a denoiser does not paint over what it does not know.
    channels : int
        Of the network along the nodes.
    """

    flux: Annotated[float, Field(ge=0.0)] = 0.3
    labels: Annotated[float, Field(ge=0.0)] = 1.0
    teacher_epochs: Annotated[int, Field(ge=0)] = 40
    left_in: bool = False
    injected: Fraction = 0.2
    noise: Annotated[float, Field(ge=0.0)] = 1.5
    strange: Fraction = 0.4
    channels: Count = 24


class TrainConfig(Strict):
    """Everything that ``spectrolabe train`` needs to train on stores.

    Parameters
    ----------
    name : str
    data : DataConfig
    encoder : EncoderConfig
    augmentation : AugmentationConfig
    training : TrainingConfig
    transfer : TransferConfig
    sky : StreamConfig, optional
        A synthetic sky that goes with the stores; needs ``transfer.start`` and weighs
        ``transfer.sky_weight``.
    twins : TwinsConfig, optional
        Learn from pairs of visits, and to take noise off spectra; needs ``transfer.start``.
    """

    name: str
    data: DataConfig
    encoder: EncoderConfig = EncoderConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    training: TrainingConfig = TrainingConfig()
    transfer: TransferConfig = TransferConfig()
    sky: StreamConfig | None = None
    twins: TwinsConfig | None = None


class DenoiserConfig(Strict):
    """Which denoiser is made, and of what.

    Parameters
    ----------
    encoder : str
        Run or released model that reads the spectra; it stays as it is.
    channels : int
        Of the network along the nodes.
    calibration : int
        Stars of each survey, drawn after the training, that set the size of the errors.
    """

    encoder: str
    channels: Count = 24
    calibration: Count = 128


class DenoiserTrainConfig(Strict):
    """Everything that ``spectrolabe train`` needs to train a denoiser on a synthetic sky.

    Parameters
    ----------
    name : str
    denoiser : DenoiserConfig
    sky : StreamConfig
    training : TrainingConfig
        ``batch_size`` is the number of stars of a batch.
    """

    name: str
    denoiser: DenoiserConfig
    sky: StreamConfig = StreamConfig()
    training: TrainingConfig = TrainingConfig(epochs=20)


class SkyTrainConfig(Strict):
    """Everything that ``spectrolabe train`` needs to train on the sky of `StreamConfig`.

    Parameters
    ----------
    name : str
    sky : StreamConfig
    labels : tuple of str
        Registry names to predict; all that the sky knows if empty.
    encoder : EncoderConfig
    training : TrainingConfig
        ``batch_size`` is the number of stars of a batch.
    compact : str
        Released model, or folder of a model, whose compact spectra the encoder takes over; they
        are made anew from the emulators if empty, and there is no first fit if "none".
    making : CompactMaking
        How they are made.
    calibration : int
        Stars of each survey, drawn after the training, that recalibrate the uncertainties.
    """

    name: str
    sky: StreamConfig = StreamConfig()
    labels: tuple[str, ...] = ()
    encoder: EncoderConfig = EncoderConfig(
        width=128, latents=12, blocks=3, dropout=0.0, filters=2, shortest_period=0.0015
    )
    training: TrainingConfig = TrainingConfig(epochs=100, batch_size=32)
    compact: str = ""
    making: CompactMaking = CompactMaking()
    calibration: Count = 1000
