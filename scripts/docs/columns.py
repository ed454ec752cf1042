"""The page of the columns of label catalogues, as the survey classes have them."""

from __future__ import annotations

from spectrolabe.labels import LABELS
from spectrolabe.surveys import SURVEYS, Survey

__all__ = ["page"]

HEAD = """# Columns of label catalogues

What `spectrolabe ingest SURVEY ... --labels TABLE` reads from the label catalogue of each survey,
and by which columns rows are joined to spectra. Case does not matter. The cuts are in
[surveys](surveys.md), where the files are in [getting the files](archives.md). Written by the
readers themselves.
"""


def page() -> str:
    """One section a survey; those with registry names share the last one."""
    own = {
        name: s
        for name, s in SURVEYS.items()
        if s.label_columns["teff"][0] != "teff" or (s.required_columns)
    }
    parts = [HEAD]
    for name, survey in own.items():
        parts += [f"## {survey.title}", "", f"`{name}`.", "", *_keys(survey), ""]
        parts += ["| label | unit | column | its error |", "|---|---|---|---|"]
        parts += [
            f"| `{label}` | {LABELS[label].unit} | `{value}` | {f'`{error}`' if error else ''} |"
            for label, (value, error) in survey.label_columns.items()
        ]
        parts.append("")
    rest = ", ".join(f"`{name}`" for name in SURVEYS if name not in own)
    parts += [
        "## Registry names",
        "",
        f"{rest}: columns are the labels themselves, `teff`, `logg`,",
    ]
    parts += ["`fe_h`, ... and `e_teff`, ...; see [files of your own](generic.md).", ""]
    return "\n".join(parts)


def _keys(survey: Survey) -> list[str]:
    joined = ", ".join(f"`{column}`" for column in survey.key_columns.values())
    needed = ", ".join(f"`{column}`" for column in survey.required_columns)
    lines = [f"Joined by {joined}. Must be there: {needed}."]
    for what, names in (("Velocity", survey.rv_column), ("S/N", survey.snr_column)):
        if names:
            lines.append(f"{what}: {' or '.join(f'`{name}`' for name in names)}.")
    return [" ".join(lines)]
