"""The pages of the released models, as their cards describe them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["names", "pages"]

Card = Mapping[str, Any]
KINDS = {
    "spectrolabe-encoder": ("Encoder: spectra to labels", "spectrolabe predict {name} INPUT..."),
    "spectrolabe-emulator": ("Emulator: labels to spectra", "spectrolabe fit {name} INPUT..."),
    "spectrolabe-denoiser": (
        "Denoiser: spectra without their noise",
        "spectrolabe denoise {name} INPUT...",
    ),
    "spectrolabe-ages": ("Ages of giants from labels", 'sl.load_ages("{name}")'),
    "spectrolabe-library-1": (
        "Library of computed spectra for synthetic skies",
        "spectrolabe simulate CONFIG",
    ),
}
LIMITS = {  # what no card can say of itself: pages that do
    "spectrolabe-encoder": "[limitations](../limitations.md)",
    "spectrolabe-emulator": "[limits of the synthesis](../synthesis.md#limits), [what is left out"
    " of fits](../fit.md#what-is-left-out), [errors](../results/emulator.md)",
    "spectrolabe-denoiser": "[visits](../twins.md), [results](../results/twins_real.md)",
    "spectrolabe-ages": "[ages](../ages.md#limits), [results](../results/ages.md)",
    "spectrolabe-library-1": "[the synthetic sky](../sky.md), [its errors]"
    "(../results/synthesis.md#the-library-of-intrinsic-spectra)",
}


def names(root: Path) -> list[str]:
    """The released models."""
    return sorted(path.parent.name for path in (root / "weights").glob("*/card.json"))


def pages(root: Path) -> dict[str, str]:
    """A page for each model, and one that lists them."""
    cards = {
        name: json.loads((root / "weights" / name / "card.json").read_text(encoding="utf-8"))
        for name in names(root)
    }
    found = {f"models/{name}.md": _page(name, card) for name, card in cards.items()}
    rows = [f"| [{name}]({name}.md) | {KINDS[card['format']][0]} |" for name, card in cards.items()]
    head = ["# Released models", "", "They travel with the package. Every model says on its card"]
    head += [
        "what it reads, what it gives, what it was trained on, and how far off it was on stars"
    ]
    head += ["that it had not seen; these pages are made of the cards.", "", "| model | |"]
    found["models/index.md"] = "\n".join([*head, "|---|---|", *rows, ""])
    return found


def _page(name: str, card: Card) -> str:
    kind, use = KINDS[card["format"]]
    use = use.format(name=name)
    parts = [f"# {name}", "", f"{kind}.", "", "```", use, "```", ""]
    for title, lines in (
        ("What it reads", _reads(card)),
        ("What it was trained on", _trained(card)),
        ("On stars that it had not seen", _unseen(card)),
        ("What it gives", _gives(card)),
        ("What it is", _what(card)),
    ):
        parts += [f"## {title}", "", *lines, ""] if lines else []
    parts += ["## Limits", "", *_limits(card), ""]
    return "\n".join(parts)


def _reads(card: Card) -> list[str]:
    found = [_sentence(card["input"])] if "input" in card else []
    data = card.get("training_data", {})
    ranges = data.get("wavelength_ranges") or (
        [data["wavelength_range"]] if "wavelength_range" in data else []
    )
    if ranges:
        spans = ", ".join(f"{low:.0f}-{high:.0f}" for low, high in ranges)
        found.append(f"Wavelengths {spans} Å.")
    if "resolution_range" in data:
        found.append(f"R of {_range(data['resolution_range'])}.")
    elif "resolution" in card:
        found.append(f"R up to {card['resolution']:,.0f}.")
    if "snr_range" in data:
        found.append(f"S/N of {_range(data['snr_range'])} a pixel.")
    if data.get("left_out"):
        found.append(f"Not read in surveys it has not learnt: {', '.join(data['left_out'])}.")
    if "inputs" in card:
        found += ["", *_ranges_of(card["inputs"]), ""]
    if "label_scale" in card:
        found.append(f"Scale of the labels: {card['label_scale']}.")
    if "encoder_sha256" in card:
        found.append(f"Spectra as `{card['encoder']}` reads them.")
    return found


def _gives(card: Card) -> list[str]:
    if "outputs" in card:
        scales = [f"- `{name}`: {text}" for name, text in card.get("age_scales", {}).items()]
        return [_sentence(card["outputs"]) + " Scales:", "", *scales]
    ranges = card.get("training_data", {}).get("label_range", {})
    if ranges:
        spread = card["training_data"].get("label_spread", {})
        rows = [
            f"| `{name}` | {low:.4g} | {high:.4g} | {spread.get(name, float('nan')):.3g} |"
            for name, (low, high) in ranges.items()
        ]
        head = ["Labels with the range and the spread of those trained on:", ""]
        return [*head, "| label | from | to | spread |", "|---|---:|---:|---:|", *rows]
    if card["format"] == "spectrolabe-emulator":
        return ["Flux over the continuum as a function of", "", *_ranges_of(card["labels"])]
    return []


def _ranges_of(labels: Sequence[Card]) -> list[str]:
    rows = [f"| `{one['name']}` | {one['low']:.4g} | {one['high']:.4g} |" for one in labels]
    return ["| label | from | to |", "|---|---:|---:|", *rows]


def _trained(card: Card) -> list[str]:
    data = card.get("training_data", {})
    known = ("store", "spectra", "stars", "surveys", "real_surveys", "differential_spectra")
    told = [key for key in known if key in data and data[key] != "store"]  # that says nothing
    found = [f"- {key.replace('_', ' ')}: {_shown(data[key])}" for key in told]
    if "grids" in data:
        listed = ", ".join(f"`{grid['name']}`" for grid in data["grids"])
        found.append(f"- grids of computed spectra: {listed}")
    for scale, count in card.get("training_stars", {}).items():
        found.append(f"- stars with ages of `{scale}`: {count:,}")
    if "transfer" in card:
        start = card["transfer"]
        before = start.get("start_trained_on", {})
        found.append(
            f"- started from `{start['start']}`, trained on {before.get('spectra', 0):,} spectra of"
            f" {before.get('stars', 0):,} stars: {before.get('store', '')}"
        )
        untaught = start.get("labels_not_taught", [])
        found.append(f"- labels that only the start was taught: {len(untaught)} ({_few(untaught)})")
    for key in ("engine", "atmospheres", "equilibrium", "atmosphere_geometry", "solar_mixture"):
        if key in card.get("provenance", {}):
            found.append(f"- {key.replace('_', ' ')}: {card['provenance'][key]}")
    return found


def _unseen(card: Card) -> list[str]:
    found: list[str] = []
    if "recalibrated_on" in card:
        found += [f"Uncertainties were recalibrated on {card['recalibrated_on']}.", ""]
    if "unseen_mad" in card:
        rows = [f"| `{name}` | {value:.3g} |" for name, value in card["unseen_mad"].items()]
        found += ["| label | 1.4826 MAD |", "|---|---:|", *rows]
    unseen = card.get("unseen", {})
    if card["format"] == "spectrolabe-emulator":
        found += [f"- mean absolute error of the flux: {100 * unseen['mae']:.3f} per cent of the"]
        found[-1] += " continuum"
        slopes = ", ".join(f"`{k}` {100 * v:.0f}" for k, v in unseen["slopes"].items())
        found.append(f"- error of the change with each label, per cent of the change: {slopes}")
    elif unseen:
        columns = list(next(iter(unseen.values())))
        found += ["| | " + " | ".join(column.replace("_", " ") for column in columns) + " |"]
        found += ["|---|" + "---:|" * len(columns)]
        for name, row in unseen.items():
            found.append(f"| `{name}` | " + " | ".join(f"{row[c]:.4g}" for c in columns) + " |")
    return found


def _what(card: Card) -> list[str]:
    found = []
    for key in ("encoder", "network", "training"):
        sizes = card.get(key)
        if isinstance(sizes, dict):
            plain = {k: v for k, v in sizes.items() if not isinstance(v, dict)}
            listed = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in plain.items())
            found.append(f"- {key}: {listed}")
    if "weights_sha256" in card:
        found.append(f"- SHA-256 of the weights: `{card['weights_sha256']}`")
    if "spectrolabe_version" in card:
        found.append(f"- made with Spectrolabe {card['spectrolabe_version']}")
    return found


def _limits(card: Card) -> list[str]:
    found = ["Outside of the ranges above it knows nothing."]
    if card["format"] == "spectrolabe-encoder":
        found[0] += " Such stars are flagged `OUT_OF_COVERAGE` where it notices."
    if "transfer" in card:
        found.append("Labels that were not taught by real stars are on the scale of computed ones.")
    return [" ".join(found), "", f"More: {LIMITS[card['format']]}."]


def _range(values: Sequence[float]) -> str:
    low, high = values
    return f"{low:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(f"`{one}`" for one in value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:3])
    return shown + (", ..." if len(names) > 3 else "")
