"""Options of a fit as they are typed: text to labels, priors, fixed values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from spectrolabe.errors import InputError
from spectrolabe.inference.priors import Priors
from spectrolabe.labels import label

__all__ = ["parse_fixed", "parse_labels", "parse_model_error", "parse_priors"]


def parse_labels(text: str | None) -> tuple[str, ...] | None:
    """Return the labels of a list like ``teff,logg,fe_h,mg_fe``.

    Raises
    ------
    InputError
        If a label is unknown or there twice.
    """
    if text is None:
        return None
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        label(name)
    if not names or len(set(names)) < len(names):
        raise InputError(
            "--labels", expected="labels joined by commas, each once", found=repr(text)
        )
    return names


def parse_fixed(entries: Iterable[str]) -> dict[str, float]:
    """Return values by label of entries like ``mg_fe=0.3``.

    Raises
    ------
    InputError
        If an entry is of another form, a label unknown or there twice, a value out of its range.
    """
    fixed: dict[str, float] = {}
    for entry in entries:
        name, value = _pair("--fix", entry, fixed)
        fixed[name] = _number("--fix", entry, value)
        known = label(name)
        if not known.low <= fixed[name] <= known.high:
            raise InputError(
                "--fix",
                expected=f"{name} from {known.low:g} to {known.high:g} {known.unit}".strip(),
                found=f"{fixed[name]:g}",
            )
    return fixed


def parse_model_error(text: str) -> float | tuple[float, float]:
    """Return the errors of ``0.005``, or of ``0.005,0.05``; see `Cutting`.

    Raises
    ------
    InputError
        If it is neither one number nor two.
    """
    numbers = [_number("--model-error", text, part) for part in text.split(",")]
    if len(numbers) > 2:
        raise InputError("--model-error", expected="one or two numbers", found=repr(text))
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


def parse_priors(entries: Iterable[str]) -> Priors | Mapping[str, tuple[float, float]]:
    """Return priors of entries like ``weak``, ``none`` and ``logg=4.44:0.02``.

    Parameters
    ----------
    entries : iterable of str
        ``weak``, which is also what none of the two means, or ``none``; and mean and standard
        deviation of single labels, which replace their weak priors.

    Raises
    ------
    InputError
        If an entry is of another form, a label unknown or there twice, a width not positive.
    """
    kinds, own = set(), dict[str, tuple[float, float]]()
    for entry in entries:
        if "=" not in entry:
            if entry not in ("weak", "none"):
                raise InputError(
                    "--prior",
                    expected="'weak', 'none', or LABEL=MEAN:SIGMA",
                    found=repr(entry),
                    fix="For example --prior logg=4.44:0.02.",
                )
            kinds.add(entry)
            continue
        name, value = _pair("--prior", entry, own)
        mean, colon, sigma = value.partition(":")
        if not colon:
            raise InputError("--prior", expected="LABEL=MEAN:SIGMA", found=repr(entry))
        own[name] = _number("--prior", entry, mean), _number("--prior", entry, sigma)
        if own[name][1] <= 0:
            raise InputError(
                "--prior", expected=f"a width of {name} > 0", found=f"{own[name][1]:g}"
            )
    if len(kinds) > 1:
        raise InputError("--prior", expected="'weak' or 'none'", found="both")
    return Priors.none().replace(own) if kinds == {"none"} else own


def _pair(option: str, entry: str, already: dict) -> tuple[str, str]:
    name, equal, value = entry.partition("=")
    name = name.strip()
    if not equal:
        raise InputError(option, expected="LABEL=VALUE", found=repr(entry))
    label(name)
    if name in already:
        raise InputError(option, expected="each label once", found=f"{name} twice")
    return name, value


def _number(option: str, entry: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(option, expected="a finite number", found=repr(entry))
    return value
