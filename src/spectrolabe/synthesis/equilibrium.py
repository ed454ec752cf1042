"""Ionisation and molecular equilibrium of a gas at given temperature and pressure.

All species follow from the densities of the neutral atoms and of the electrons by the laws of
Saha and of Guldberg and Waage. The unknowns are the logarithms of those densities and of the
density of hydrogen nuclei; Newton's method solves for the logarithms of the conservation laws
(each element, charge, total pressure), which are nearly linear in the unknowns wherever one
species dominates, so that it converges from a poor start too.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from spectrolabe.errors import InputError, unknown_name
from spectrolabe.synthesis.constants import (
    ATOMIC_MASS,
    BOLTZMANN,
    BOLTZMANN_EV,
    ELECTRON_MASS,
    PLANCK,
)
from spectrolabe.synthesis.elements import MASS, SYMBOLS
from spectrolabe.synthesis.gas import Gas
from spectrolabe.synthesis.tables import load_table

__all__ = ["IONISATION", "Chemistry", "chemistry", "equilibrium", "partition_function", "solve"]

STAGES = ("1", "2", "3")
TOLERANCE = 1e-10  # of every conservation law, relative
STEPS = 40
LONGEST = 8.0  # step of a logarithm
NONE_LEFT = 1e-40  # stands for the abundance of an absent element, whose logarithm is needed


def _ionisation() -> Mapping[str, NDArray]:
    energies = load_table("atoms")["ionisation"]
    return MappingProxyType(dict(zip(SYMBOLS, energies, strict=True)))


IONISATION: Mapping[str, NDArray] = _ionisation()
"""By symbol: energies (eV) that ionise the neutral, singly and doubly ionised atom (NIST)."""


@dataclass(frozen=True, eq=False)
class _Reactions:
    """Which atoms make which molecules.

    `core` are the elements (indices into SYMBOLS) that form molecules, those of few partners
    first so that elimination fills in little; `others` form none. Molecule m has the atoms
    ``members[first[m]:first[m + 1]]`` (indices into core), ``counts`` of each.
    """

    names: tuple[str, ...]
    core: NDArray
    others: NDArray
    first: NDArray
    members: NDArray
    counts: NDArray
    electrons: NDArray


@functools.cache
def _reactions() -> _Reactions:
    table = load_table("molecules")
    formula = np.asarray(table["formula"], dtype=np.int64)
    atoms = formula[:, :-1]
    partners = (atoms > 0).sum(axis=0)
    core = np.flatnonzero(partners)
    core = core[np.argsort(partners[core], kind="stable")]
    owner, members = np.nonzero(atoms[:, core])
    return _Reactions(
        names=tuple(str(name) for name in table["name"]),
        core=core,
        others=np.flatnonzero(partners == 0),
        first=np.searchsorted(owner, np.arange(len(formula) + 1)),
        members=members,
        counts=atoms[:, core][owner, members],
        electrons=formula[:, -1],
    )


@dataclass(frozen=True, eq=False)
class Chemistry:
    """What the equilibrium takes from the temperature alone.

    Parameters
    ----------
    temperature : ndarray, shape (L,)
        K.
    atoms : ndarray, shape (92, 3, L)
        Partition functions.
    molecules : ndarray, shape (N, L)
        Partition functions.
    ln_saha : ndarray, shape (L, 92, 2)
        ln of n(stage + 1) n_e / n(stage), 1/cm3.
    ln_formation : ndarray, shape (L, N)
        ln of the density of the molecule over the product of those of its neutral atoms
        and electrons, cgs.
    """

    temperature: NDArray
    atoms: NDArray
    molecules: NDArray
    ln_saha: NDArray
    ln_formation: NDArray


def chemistry(temperature: ArrayLike) -> Chemistry:
    """Return the partition functions and equilibrium constants at some temperatures.

    Parameters
    ----------
    temperature : array_like, shape (L,)
        K. Partition functions are constant below 992 K and above 20,952 K.

    Raises
    ------
    InputError
        If a temperature is not positive and finite.
    """
    kelvin = np.atleast_1d(np.array(temperature, dtype=float))
    if kelvin.ndim != 1 or not (np.isfinite(kelvin) & (kelvin > 0)).all():
        raise InputError(
            "equilibrium",
            expected="positive temperatures in one dimension",
            found=f"shape {kelvin.shape}, or values out of range",
            fix="Give the temperatures of the layers in K.",
        )
    table = load_table("molecules")
    ln_atoms = _interpolated("atoms", kelvin)
    ln_molecules = _interpolated("molecules", kelvin)
    free = 1.5 * np.log(2.0 * np.pi * BOLTZMANN * kelvin / PLANCK**2)  # per unit mass
    ln_electron = np.log(2.0) + free + 1.5 * np.log(ELECTRON_MASS)
    energy = load_table("atoms")["ionisation"][:, :2, None] / (BOLTZMANN_EV * kelvin)
    ln_saha = ln_atoms[:, 1:] - ln_atoms[:, :-1] + ln_electron - energy

    formula = np.asarray(table["formula"], dtype=float)
    mass = np.append(MASS * ATOMIC_MASS, ELECTRON_MASS)
    ln_free_atom = ln_atoms[:, 0] + free + 1.5 * np.log(MASS * ATOMIC_MASS)[:, None]
    ln_formation = (
        ln_molecules
        + free
        + 1.5 * np.log(formula @ mass)[:, None]
        + table["dissociation"][:, None] / (BOLTZMANN_EV * kelvin)
        - formula @ np.vstack([ln_free_atom, ln_electron])
    )
    state = Chemistry(
        temperature=kelvin,
        atoms=np.exp(ln_atoms),
        molecules=np.exp(ln_molecules),
        ln_saha=np.ascontiguousarray(ln_saha.transpose(2, 0, 1)),
        ln_formation=np.ascontiguousarray(ln_formation.T),
    )
    for array in vars(state).values():
        array.flags.writeable = False
    return state


def _interpolated(name: str, kelvin: NDArray) -> NDArray:
    """ln Q of all species of a table: cubic in ln T through the four nodes around."""
    table = load_table(name)
    nodes = table["ln_temperature"]
    x = np.clip(np.log(kelvin), nodes[0], nodes[-1])
    step = (nodes[-1] - nodes[0]) / (len(nodes) - 1)
    left = np.clip(((x - nodes[0]) / step).astype(int), 1, len(nodes) - 3)
    u = (x - nodes[left]) / step
    weights = (
        -u * (u - 1.0) * (u - 2.0) / 6.0,
        (u + 1.0) * (u - 1.0) * (u - 2.0) / 2.0,
        -(u + 1.0) * u * (u - 2.0) / 2.0,
        (u + 1.0) * u * (u - 1.0) / 6.0,
    )
    values = table["ln_partition"]
    return sum(weight * values[..., left + k - 1] for k, weight in enumerate(weights))


def partition_function(species: str, temperature: ArrayLike) -> NDArray:
    """Return the partition function of an atom, an ion or a molecule.

    Parameters
    ----------
    species : str
        ``"Fe 1"`` (neutral), ``"Fe 2"``, ``"Fe 3"``, or a molecule such as ``"CH"``.
    temperature : array_like, shape (L,)
        K.

    Returns
    -------
    ndarray, shape (L,)

    Raises
    ------
    InputError
        If there is no such species.
    """
    state = chemistry(temperature)
    names = _reactions().names
    if species in names:
        return state.molecules[names.index(species)]
    symbol, _, stage = species.partition(" ")
    if symbol not in SYMBOLS or stage not in STAGES:
        raise unknown_name("species", species, [*names, "Fe 1", "Fe 2", "Fe 3"], kind="species")
    return state.atoms[SYMBOLS.index(symbol), STAGES.index(stage)]


def equilibrium(
    temperature: ArrayLike,
    pressure: ArrayLike,
    abundances: ArrayLike,
    electrons: ArrayLike | None = None,
) -> Gas:
    """Solve the ionisation and molecular equilibrium in L layers.

    Parameters
    ----------
    temperature : array_like, shape (L,)
        K.
    pressure : array_like, shape (L,)
        Gas pressure including electrons, dyn/cm2.
    abundances : array_like, shape (92,)
        n_X / n_H, H to U; that of hydrogen is 1.
    electrons : array_like, shape (L,), optional
        A guess of the electron density, 1/cm3.

    Returns
    -------
    Gas
        The elements of nonzero abundance and all molecules; conservation of each element, of
        charge and of the total pressure holds to 1e-10. ``H-``, ``H2+`` and a few more molecular
        ions are among the molecules.

    Raises
    ------
    InputError
        If shapes differ, a number is not positive and finite, or no solution is found.
    """
    return solve(chemistry(temperature), pressure, abundances, electrons)[0]


def solve(
    state: Chemistry,
    pressure: ArrayLike,
    abundances: ArrayLike,
    electrons: ArrayLike | None = None,
    start: NDArray | None = None,
) -> tuple[Gas, NDArray]:
    """Solve as `equilibrium` does, with the constants at the temperatures already at hand.

    Returns
    -------
    Gas
    ndarray, shape (L, U)
        The unknowns; as `start` they make the solution of a similar gas faster.
    """
    kelvin = state.temperature
    force = np.atleast_1d(np.array(pressure, dtype=float))
    ratio = np.asarray(abundances, dtype=float)
    _check(kelvin, force, ratio)
    reactions = _reactions()
    core, others = reactions.core, reactions.others
    saha = np.exp(state.ln_saha)
    guess = np.zeros_like(kelvin) if electrons is None else np.asarray(electrons, dtype=float)
    unknown, residual = _solve_layers(
        force / (BOLTZMANN * kelvin),
        guess,
        np.empty((0, 0)) if start is None else start,
        (np.maximum(ratio[core], NONE_LEFT), ratio[others]),
        (np.ascontiguousarray(saha[:, core]), np.ascontiguousarray(saha[:, others])),
        np.exp(state.ln_formation),
        (reactions.first, reactions.members, reactions.counts, reactions.electrons),
    )
    worst = int(np.argmax(np.where(np.isfinite(residual), residual, np.inf)))
    if not residual[worst] < TOLERANCE:
        raise InputError(
            "equilibrium",
            expected="a gas whose conservation laws can be met",
            found=f"an imbalance of {residual[worst]:.1e} at {kelvin[worst]:.0f} K, "
            f"{force[worst]:.3g} dyn/cm2",
            fix="Check the abundances and the atmosphere.",
        )
    return _gas(state, force, ratio, unknown, saha), unknown


def _check(kelvin: NDArray, pressure: NDArray, ratio: NDArray) -> None:
    fine = (
        kelvin.shape == pressure.shape
        and ratio.shape == (len(SYMBOLS),)
        and all(np.all(np.isfinite(x)) for x in (pressure, ratio))
        and bool(np.all(pressure > 0) and np.all(ratio >= 0))
        and ratio[0] == 1.0
    )
    if not fine:
        raise InputError(
            "equilibrium",
            expected="one positive pressure by layer; 92 abundances, that of hydrogen 1",
            found=f"shapes {kelvin.shape}, {pressure.shape}, {ratio.shape}, or values out of range",
            fix="Use elements.mixture for abundances.",
        )


def _gas(
    state: Chemistry, pressure: NDArray, ratio: NDArray, unknown: NDArray, saha: NDArray
) -> Gas:
    """All densities from those of the neutral atoms, of electrons and of hydrogen nuclei."""
    reactions = _reactions()
    electrons = np.exp(unknown[:, -2])
    hydrogen = np.exp(unknown[:, -1])
    first = saha[..., 0].T / electrons
    second = first * saha[..., 1].T / electrons
    stages = np.stack([np.ones_like(first), first, second], axis=1)
    neutral = ratio[:, None] * hydrogen / stages.sum(axis=1)
    neutral[reactions.core] = np.exp(unknown[:, :-2].T)
    stages *= neutral[:, None]
    formula = np.asarray(load_table("molecules")["formula"], dtype=float)
    basis = np.hstack([unknown[:, :-2], unknown[:, -2:-1]])
    stoichiometry = formula[:, np.append(reactions.core, -1)]
    molecules = np.exp(state.ln_formation + basis @ stoichiometry.T).T
    for array in (pressure, electrons, hydrogen, stages, molecules):
        array.flags.writeable = False

    present = np.flatnonzero(ratio > 0)
    partition = {SYMBOLS[z]: state.atoms[z] for z in present}
    partition.update(zip(reactions.names, state.molecules, strict=True))
    return Gas(
        temperature=state.temperature,
        pressure=pressure,
        electrons=electrons,
        hydrogen=hydrogen,
        density=hydrogen * (ratio @ MASS) * ATOMIC_MASS,
        atoms={SYMBOLS[z]: stages[z] for z in present},
        molecules=dict(zip(reactions.names, molecules, strict=True)),
        partition=partition,
    )


@njit(cache=True, error_model="numpy")
def _solve_layers(
    particles: NDArray,
    guess: NDArray,
    start: NDArray,
    ratio: tuple,
    saha: tuple,
    constants: NDArray,
    species: tuple,
) -> tuple[NDArray, NDArray]:  # pragma: no cover
    """Unknowns (L, C + 2) and the largest imbalance (L,) of all layers, each from the one above."""
    layers, e = len(particles), len(ratio[0])
    unknown = np.empty((layers, e + 2))
    residual = np.full(layers, np.inf)
    for i in range(layers):
        x, n, k = unknown[i], particles[i], constants[i]
        atoms = (ratio[0], saha[0][i], ratio[1], saha[1][i])
        for attempt in range(3):
            strength = 80.0 if attempt == 2 else 0.0
            if attempt == 0 and len(start) == layers:
                for j in range(e + 2):
                    x[j] = start[i, j]
            elif attempt == 0 and i > 0:
                for j in range(e + 2):
                    x[j] = unknown[i - 1, j] + np.log(n / particles[i - 1])
                if guess[i] > 0.0:
                    x[e] = np.log(guess[i])
            else:
                _start(x, n, guess[i] if attempt == 1 else 0.0, atoms)
            residual[i] = _continue(x, n, atoms, k, species, strength)
            if residual[i] < TOLERANCE:
                break
        if not residual[i] < TOLERANCE:
            break
    return unknown, residual


@njit(cache=True, error_model="numpy")
def _continue(
    x: NDArray,
    particles: float,
    atoms: tuple,
    constants: NDArray,
    species: tuple,
    weakness: float,
) -> float:  # pragma: no cover
    """Newton's method, after steps in which bonds weakened by exp(-weakness) regain strength."""
    first, _, counts, _ = species
    trial, step = weakness, 1.0
    reached, weaker = np.empty(len(x)), np.empty(len(constants))
    for j in range(len(x)):
        reached[j] = x[j]
    while True:
        for m in range(len(constants)):
            bonds = -1.0
            for p in range(first[m], first[m + 1]):
                bonds += counts[p]
            weaker[m] = constants[m] * np.exp(-trial * bonds)
        residual = _newton(x, particles, atoms, weaker, species)
        if residual < TOLERANCE:
            if trial == 0.0:
                return residual
            for j in range(len(x)):
                reached[j] = x[j]
            weakness = trial
            step *= 2.0
        else:
            for j in range(len(x)):
                x[j] = reached[j]
            step *= 0.4
            if weakness == 0.0 or trial == weakness or step < 1e-3:
                return np.inf
        trial = max(weakness - step, 0.0)


@njit(cache=True, error_model="numpy")
def _start(x: NDArray, particles: float, guess: float, atoms: tuple) -> None:  # pragma: no cover
    """Atoms and ions alone: bisection of the charge balance in ln n_e."""
    a, saha, a_others, saha_others = atoms
    total = 0.0
    for ratio in a:
        total += ratio
    for ratio in a_others:
        total += ratio
    high = np.log(particles)
    low = high - 60.0
    if guess > 0.0:
        low = high = np.log(guess)
    while high - low > 1e-2:
        middle = 0.5 * (low + high)
        electrons = np.exp(middle)
        charge = _charge(electrons, a, saha) + _charge(electrons, a_others, saha_others)
        if charge * (particles - electrons) / total > electrons:
            low = middle
        else:
            high = middle
    electrons = min(np.exp(0.5 * (low + high)), 0.6 * particles)
    hydrogen = (particles - electrons) / total
    for i in range(len(a)):
        r = saha[i, 0] / electrons
        x[i] = np.log(a[i] * hydrogen / (1.0 + r * (1.0 + saha[i, 1] / electrons)))
    x[len(a)] = np.log(electrons)
    x[len(a) + 1] = np.log(hydrogen)


@njit(cache=True, error_model="numpy")
def _charge(electrons: float, a: NDArray, saha: NDArray) -> float:  # pragma: no cover
    """Electrons given away per hydrogen nucleus."""
    charge = 0.0
    for i in range(len(a)):
        r = saha[i, 0] / electrons
        rr = r * saha[i, 1] / electrons
        charge += a[i] * (r + 2.0 * rr) / (1.0 + r + rr)
    return charge


@njit(cache=True, error_model="numpy")
def _newton(
    x: NDArray, particles: float, atoms: tuple, constants: NDArray, species: tuple
) -> float:  # pragma: no cover
    """Improve the unknowns in place; return the largest relative imbalance that is left."""
    size = len(x)
    matrix = np.empty((size, size))
    right = np.empty(size)
    imbalance = np.inf
    for _ in range(STEPS):
        _linearise(matrix, right, x, particles, atoms, constants, species)
        imbalance = 0.0
        for value in right:
            imbalance = max(imbalance, abs(value)) if np.isfinite(value) else np.inf
        if imbalance < 0.01 * TOLERANCE or not np.isfinite(imbalance):
            break
        _eliminate(matrix, right)
        for i in range(size):
            x[i] += min(max(right[i], -LONGEST), LONGEST)
    return imbalance


@njit(cache=True, error_model="numpy")
def _linearise(
    matrix: NDArray,
    right: NDArray,
    x: NDArray,
    particles: float,
    atoms: tuple,
    constants: NDArray,
    species: tuple,
) -> None:  # pragma: no cover
    """Logarithmic imbalances (negative, in `right`) and their derivatives by the unknowns."""
    a, saha, a_others, saha_others = atoms
    first, members, counts, charges = species
    core = len(a)
    e, h = core, core + 1
    for i in range(core + 2):
        right[i] = 0.0
        for j in range(core + 2):
            matrix[i, j] = 0.0
    electrons, hydrogen = np.exp(x[e]), np.exp(x[h])
    inverse = 1.0 / electrons
    positive, d_positive_e, d_positive_h = 0.0, 0.0, 0.0
    negative, total, d_total_e, d_total_h = electrons, electrons, electrons, 0.0
    d_negative_e = electrons
    # row e holds the derivatives of the positive charge, right those of the negative one
    neutral, sums = np.empty(core), np.empty(core)
    for i in range(core):
        neutral[i] = np.exp(x[i])
        once = neutral[i] * saha[i, 0] * inverse
        twice = once * saha[i, 1] * inverse
        charge = once + 2.0 * twice
        sums[i] = matrix[i, i] = matrix[h, i] = neutral[i] + once + twice
        matrix[i, e] = -charge
        matrix[e, i] = charge
        positive += charge
        d_positive_e -= once + 4.0 * twice
        total += neutral[i] + once + twice
        d_total_e -= charge
    for i in range(len(a_others)):
        r = saha_others[i, 0] * inverse
        rr = r * saha_others[i, 1] * inverse
        n = a_others[i] * hydrogen
        share = 1.0 / (1.0 + r + rr)
        mean = (r + 2.0 * rr) * share
        square = (r + 4.0 * rr) * share
        positive += n * mean
        d_positive_h += n * mean
        d_positive_e -= n * (square - mean * mean)
        total += n
        d_total_h += n
    for m in range(len(constants)):
        n = constants[m]
        if charges[m] != 0:
            n *= electrons if charges[m] > 0 else inverse
        for p in range(first[m], first[m + 1]):
            for _ in range(counts[p]):
                n *= neutral[members[p]]
        n = min(n, 1e100)
        total += n
        d_total_e += charges[m] * n
        if charges[m] > 0:
            negative += charges[m] * n
            d_negative_e += charges[m] ** 2 * n
        elif charges[m] < 0:
            positive -= charges[m] * n
            d_positive_e -= charges[m] ** 2 * n
        for p in range(first[m], first[m + 1]):
            i, amount = members[p], counts[p] * n
            sums[i] += amount
            matrix[h, i] += amount
            matrix[i, e] += charges[m] * amount
            if charges[m] > 0:
                right[i] += charges[m] * amount
            elif charges[m] < 0:
                matrix[e, i] -= charges[m] * amount
            for q in range(first[m], first[m + 1]):
                matrix[i, members[q]] += counts[q] * amount
    for i in range(core):
        share = 1.0 / sums[i]
        for j in range(e + 1):
            matrix[i, j] *= share
        matrix[i, h] = -1.0
        matrix[e, i] = right[i] / negative - matrix[e, i] / positive
        matrix[h, i] /= total
        right[i] = np.log(a[i]) + x[h] - np.log(sums[i])
    matrix[e, e] = d_negative_e / negative - d_positive_e / positive
    matrix[e, h] = -d_positive_h / positive
    right[e] = np.log(positive / negative)
    matrix[h, e] = d_total_e / total
    matrix[h, h] = d_total_h / total
    right[h] = np.log(particles / total)


@njit(cache=True, error_model="numpy")
def _eliminate(matrix: NDArray, right: NDArray) -> None:  # pragma: no cover
    """Gauss elimination in place, skipping zeros; the leading block is positive definite."""
    size = len(right)
    for k in range(size):
        pivot = 1.0 / matrix[k, k]
        for i in range(k + 1, size):
            if matrix[i, k] == 0.0:
                continue
            factor = matrix[i, k] * pivot
            for j in range(k + 1, size):
                matrix[i, j] -= factor * matrix[k, j]
            right[i] -= factor * right[k]
    for k in range(size - 1, -1, -1):
        value = right[k]
        for j in range(k + 1, size):
            value -= matrix[k, j] * right[j]
        right[k] = value / matrix[k, k]
