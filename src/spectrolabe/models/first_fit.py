"""A fit of the full spectrum in a few steps, from which a network starts.

Levenberg-Marquardt steps in the labels of many stars at once. Spectra are those of
`spectrolabe.models.compact`, and go through what was done to the data (`explained`): where the
pixels of a kernel lie, the resolution of each, the local continuum of what was covered. Tokens
that no star explains weigh less. The velocity that is left in each spectrum is fitted, too. The
last steps have spectra from the emulators, and of the compact ones the slopes alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from spectrolabe.models.compact import CompactSpectra
from spectrolabe.models.explained import Explained
from spectrolabe.models.tokens import Tokens, ladder_level
from spectrolabe.spectra.wavelength import SPEED_OF_LIGHT

__all__ = ["FirstFit", "TokenView", "first_fit"]

STEPS = 4
CORRECTIONS = 5  # times that spectra are asked of the emulators
DOUBT = (0, 1)  # of these, before which tokens are weighed anew
SHORTEST, FURTHEST = -0.5, 3.0  # of a step, that the last one may say that is lacking
REWEIGH = (2,)  # steps before which tokens are weighed anew
VELOCITY = 0.1  # FWHM: standard deviation of velocities that are left
LONGEST = 1.0  # step of a scaled label
DAMPING, LEAST_DAMPING = 0.03, 1e-4
WORSE, BETTER = 10.0, 0.2  # factors of the damping
TRIES = 6


class TokenView(NamedTuple):
    """What a fit says of the tokens of some spectra, seen by E' entries.

    Parameters
    ----------
    part : int
        The part that the spectra are of.
    spectrum : Tensor, shape (E',)
        Their rows in it.
    entry : Tensor, shape (E',)
        Numbers of the entries.
    model, residual : Tensor, shape (E', T, NODES)
        Content that the fit expects; content less that, over the noise.
    influence : Tensor, shape (E', T, A)
        By how much each token pulls the labels, in units of their sigma.
    trust : Tensor, shape (E', T)
        Of what it would weigh if noise explained its residuals.
    """

    part: int
    spectrum: Tensor
    entry: Tensor
    model: Tensor
    residual: Tensor
    influence: Tensor
    trust: Tensor


class FirstFit(NamedTuple):
    """Labels of V views of stars, from E spectra.

    Parameters
    ----------
    labels : Tensor, shape (V, A)
        Scaled as those of the compact spectra.
    covariance : Tensor, shape (V, A, A)
    velocity, velocity_sigma : Tensor, shape (V,)
        What is left in the spectra, km/s: the mean of several.
    misfit : Tensor, shape (V,)
        Mean square of the residuals over the noise.
    tokens : list of TokenView
    """

    labels: Tensor
    covariance: Tensor
    velocity: Tensor
    velocity_sigma: Tensor
    misfit: Tensor
    tokens: list[TokenView]


class _Sums(NamedTuple):
    """Sums over the tokens of E entries.

    chi2; what residuals say of the amounts of functions, and of the velocity; the products of the
    slope with velocity and the functions, and itself.
    """

    chi2: Tensor
    score: Tensor
    pull: Tensor
    cross: Tensor
    power: Tensor


class _Point(NamedTuple):
    """Where V views and E entries are, and what is seen from there."""

    labels: Tensor
    slopes: Tensor
    value: Tensor
    velocity: Tensor
    sums: _Sums


def first_fit(
    compact: CompactSpectra, parts: Sequence[Tokens], view: Tensor, spectrum: Tensor
) -> FirstFit:
    """Fit V views of stars.

    The last step can be differentiated with respect to the tokens.

    Parameters
    ----------
    compact : CompactSpectra
    parts : sequence of Tokens
        Of B spectra altogether.
    view, spectrum : Tensor, shape (E,), int64
        ``star`` and ``spectrum`` of `spectrolabe.models.encoder.Encoder.forward`.
    """
    pieces, begin = [], 0
    for number, part in enumerate(parts):
        level = ladder_level(part.places[part.place[:, 0], 1].double().exp())
        mine = (spectrum >= begin) & (spectrum < begin + len(level))
        row = torch.where(mine, spectrum - begin, 0)
        for one in torch.unique(level):  # places of different widths have nothing in common
            entry = (mine & (level[row] == one)).nonzero()[:, 0]
            if len(entry):
                seen = Explained(part, row[entry], compact)
                pieces.append(_Piece(number, row[entry], entry, seen))
        begin += len(level)
    return _Fit(compact, pieces, view).run()


class _Piece(NamedTuple):
    """Some spectra of a part, and the entries that see them."""

    part: int
    spectrum: Tensor
    entry: Tensor
    seen: Explained


class _Fit:
    def __init__(self, compact: CompactSpectra, pieces: list[_Piece], view: Tensor) -> None:
        self.compact, self.pieces, self.view = compact, pieces, view
        self.views = int(view[-1]) + 1
        self.prior = torch.linalg.inv(compact.prior.double()).float()
        width = compact.prior.new_zeros(len(view))
        for piece in pieces:
            width[piece.entry] = SPEED_OF_LIGHT / piece.seen.resolution
        self.at_rest = (VELOCITY * width) ** -2  # precision of a velocity of 0
        self.before: tuple[Tensor, Tensor] | None = None  # labels, and the step from there

    def run(self) -> FirstFit:
        with torch.no_grad():
            gram = self.gram()
            velocity = torch.zeros_like(self.at_rest)
            point = self.point(self.start(gram), velocity)
            damping = torch.full((self.views,), DAMPING, device=velocity.device)
            for step in range(1, STEPS + 1):
                labels = self.inside(point.labels, self.step(point, gram, damping)[0])
                velocity = self.followed(point, labels)
                new = self.point(labels, velocity, reweigh=step in REWEIGH)
                if step in REWEIGH:  # values before and after do not compare
                    gram, point = self.gram(), new
                    continue
                worse = new.value > point.value
                damping = damping * torch.where(worse, WORSE, BETTER)
                point = self.chosen(worse, point, new)
            if self.compact.emulators:
                point, gram = self.corrected(point, gram)
        return self.result(point, gram)

    def corrected(self, point: _Point, gram: Tensor) -> tuple[_Point, Tensor]:
        """Look again with spectra of the emulators, go where these lead, and return the best."""
        best = point
        for turn in range(CORRECTIONS):
            labels, velocity = point.labels, point.velocity
            if turn:
                labels, velocity, _ = self.moved(point, gram)
            amounts = self.compact.shares(labels)
            for piece in self.pieces:
                view = self.view[piece.entry]
                piece.seen.correct(labels[view], amounts[view])
            point = self.point(labels, velocity, reweigh=turn in DOUBT)
            if turn in DOUBT:  # values before and after do not compare
                gram, best = self.gram(), point
            else:
                best = self.chosen(point.value > best.value, best, point)
        return best, gram

    def moved(self, point: _Point, gram: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Labels and velocities after a step that is hardly damped; factor of the precision."""
        least = torch.full_like(point.value, LEAST_DAMPING)
        change, factor = self.step(point, gram, least)
        if self.compact.emulators:
            change = change + self.further(point.labels, change.detach(), factor)
        labels = self.inside(point.labels, change)
        return labels, self.followed(point, labels), factor

    def inside(self, labels: Tensor, change: Tensor) -> Tensor:
        """Labels after a change that is not too long, within their range."""
        size = change.abs().amax(dim=1, keepdim=True)
        change = change * (LONGEST / size.clamp(min=LONGEST))
        return (labels + change).clamp(self.compact.low, self.compact.high)

    def further(self, labels: Tensor, change: Tensor, factor: Tensor) -> Tensor:
        """By how much more to go than a step, as the last one says (Anderson 1965).

        Slopes that are wrong make all steps too short, or too long, by the same share.
        """
        before, self.before = self.before, (labels, change)
        if before is None:
            return torch.zeros_like(change)
        turned = change - before[1]
        metric = factor.transpose(1, 2).float()
        a, b = ((metric @ x[..., None])[..., 0] for x in (change, turned))
        share = (a * b).sum(dim=1) / (b * b).sum(dim=1).clamp(min=1e-12)
        share = share.clamp(-FURTHEST, -SHORTEST)[:, None]
        return -share * (labels - before[0] + turned)

    def add(self, values: Tensor) -> Tensor:
        """Sum what entries have over their views."""
        out = values.new_zeros(self.views, *values.shape[1:])
        return out.index_add(0, self.view, values)

    def chosen(self, worse: Tensor, old: _Point, new: _Point) -> _Point:
        """The old point where the new one is worse."""

        def pick(a: Tensor, b: Tensor, where: Tensor) -> Tensor:
            return torch.where(where.reshape(-1, *[1] * (a.ndim - 1)), a, b)

        mine = worse[self.view]
        return _Point(
            pick(old.labels, new.labels, worse),
            pick(old.slopes, new.slopes, worse),
            pick(old.value, new.value, worse),
            pick(old.velocity, new.velocity, mine),
            _Sums(*(pick(a, b, mine) for a, b in zip(old.sums, new.sums, strict=True))),
        )

    def gram(self) -> Tensor:
        """Products of the functions, summed over the tokens of each entry, (E, M, M)."""
        size = self.compact.functions
        out = self.at_rest.new_zeros(len(self.view), size, size)
        for piece in self.pieces:
            out[piece.entry] = piece.seen.gram()
        return out

    def start(self, gram: Tensor) -> Tensor:
        """Labels of the best start of each view."""
        starts = self.compact.starts
        amounts = self.compact.shares(starts)
        nothing = amounts.new_zeros(len(self.view), amounts.shape[1])
        score = self.add(self.sums(nothing, torch.zeros_like(self.at_rest)).score)
        chi2 = torch.einsum("km,vmn,kn->vk", amounts, self.add(gram), amounts)
        chi2 = chi2 - 2.0 * score @ amounts.T
        chi2 = chi2 + torch.einsum("ka,ab,kb->k", starts, self.prior, starts)
        return starts[chi2.argmin(dim=1)]

    def point(self, labels: Tensor, velocity: Tensor, *, reweigh: bool = False) -> _Point:
        """Look at the spectra from some labels and velocities."""
        rows = self.compact.shares_with_slopes(labels)
        sums = self.sums(rows[self.view, 0], velocity, reweigh=reweigh)
        value = self.add(sums.chi2 + self.at_rest * velocity**2)
        value = value + torch.einsum("va,ab,vb->v", labels, self.prior, labels)
        return _Point(labels, rows[:, 1:], value, velocity, sums)

    def sums(self, amounts: Tensor, velocity: Tensor, *, reweigh: bool = False) -> _Sums:
        count, size = amounts.shape
        shapes = ((count,), (count, size), (count,), (count, size), (count,))
        out = _Sums(*(amounts.new_zeros(shape) for shape in shapes))
        for piece in self.pieces:
            entry = piece.entry
            found = piece.seen.look(amounts[entry], velocity[entry], reweigh=reweigh)
            out = _Sums(*(a.index_copy(0, entry, b) for a, b in zip(out, found, strict=True)))
        return out

    def step(self, point: _Point, gram: Tensor, damping: Tensor) -> tuple[Tensor, Tensor]:
        """Change of the labels, and the factor of the precision."""
        slopes, sums = point.slopes[self.view], point.sums
        pinned, pull, mixed = self.motion(point)
        precision = slopes @ gram @ slopes.transpose(1, 2)
        # velocities are taken out of the equations of the labels
        precision = precision - mixed[:, :, None] * mixed[:, None] / pinned[:, None, None]
        precision = self.add(precision) + self.prior
        right = torch.einsum("eam,em->ea", slopes, sums.score) - mixed * (pull / pinned)[:, None]
        right = self.add(right) - point.labels @ self.prior
        ridge = torch.diagonal(precision, dim1=1, dim2=2) * damping[:, None]
        factor = _factor((precision + torch.diag_embed(ridge)).double())
        return torch.cholesky_solve(right.double()[..., None], factor)[..., 0].float(), factor

    def motion(self, point: _Point) -> tuple[Tensor, Tensor, Tensor]:
        """Precision of the velocities, what pulls them, and how they go with each label."""
        pinned = point.sums.power + self.at_rest
        pull = point.sums.pull - self.at_rest * point.velocity
        return pinned, pull, torch.einsum("eam,em->ea", point.slopes[self.view], point.sums.cross)

    def followed(self, point: _Point, labels: Tensor) -> Tensor:
        """Velocities that go with a step to these labels."""
        pinned, pull, mixed = self.motion(point)
        change = (labels - point.labels)[self.view]
        return point.velocity + (pull - (mixed * change).sum(dim=1)) / pinned

    def result(self, point: _Point, gram: Tensor) -> FirstFit:
        """One more step, which is not made where emulators were asked, and what is left."""
        compact, view = self.compact, self.view
        amounts = compact.shares(point.labels)[view]
        if any(piece.seen.content.requires_grad for piece in self.pieces):
            score, pull = self.sums(amounts, point.velocity)[1:3]
            point = point._replace(sums=point.sums._replace(score=score, pull=pull))
        labels, velocity, factor = self.moved(point, gram)
        if compact.emulators:  # they have been asked at this point
            labels = point.labels + (labels - labels.detach())
            velocity = point.velocity + (velocity - velocity.detach())
        covariance = torch.cholesky_inverse(factor).float()
        pinned = point.sums.power + self.at_rest
        known = self.add(pinned)
        velocity = self.add(pinned * velocity) / known
        # a direction of the amounts for each label: how residuals move it, over its sigma
        sigma = torch.diagonal(covariance, dim1=1, dim2=2).sqrt()
        turn = (covariance / sigma[:, :, None]) @ point.slopes  # (V, A, M)
        tokens, misfit, counts = [], torch.zeros_like(known), torch.zeros_like(known)
        for part, spectrum, entry, seen in self.pieces:
            *said, square, count = seen.told(
                amounts[entry], point.velocity[entry], turn[view[entry]]
            )
            tokens.append(TokenView(part, spectrum, entry, *said))
            misfit = misfit.index_add(0, view[entry], square)
            counts = counts.index_add(0, view[entry], count)
        return FirstFit(
            labels,
            covariance,
            velocity,
            known.rsqrt(),
            misfit / counts.clamp(min=1.0),
            tokens,
        )


def _factor(matrix: Tensor) -> Tensor:
    """Cholesky factor; with a larger diagonal where rounding, or odd spectra, ask for it."""
    diagonal = torch.diag_embed(torch.diagonal(matrix, dim1=1, dim2=2).abs().clamp(min=1.0))
    more = matrix.new_zeros(len(matrix), 1, 1)
    for _ in range(TRIES):
        factor, failed = torch.linalg.cholesky_ex(matrix + more * diagonal)
        if not failed.any():
            break
        more = torch.where((failed > 0)[:, None, None], (100.0 * more).clamp(min=1e-6), more)
    return factor
