"""The page of the command line, as the command itself describes it."""

from __future__ import annotations

import re
from typing import Any

import typer.main

from spectrolabe.cli import app

__all__ = ["page"]


def page() -> str:
    """Every verb with its arguments and options."""
    group: Any = typer.main.get_command(app)
    parts = ["# The command", "", group.help, ""]
    parts += ["`spectrolabe VERB --help` says the same.", "", "```", "spectrolabe VERB ...", "```"]
    parts += ["", *_table(group, "option"), ""]
    for name, verb in group.commands.items():
        parts += ["", f"## {name}", "", "```", _usage(name, verb), "```", ""]
        parts += [_text(verb.help or ""), ""]
        for kind in ("argument", "option"):
            parts += [*_table(verb, kind), ""]
    return "\n".join(parts) + "\n"


def _usage(name: str, verb: Any) -> str:
    words = [p for p in verb.params if p.param_type_name == "argument"]
    return " ".join(["spectrolabe", name, "[OPTIONS]", *(_argument(p) for p in words)])


def _argument(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    name += "..." if parameter.nargs == -1 else ""
    return name if parameter.required else f"[{name}]"


def _table(verb: Any, kind: str) -> list[str]:
    found = [p for p in verb.params if p.param_type_name == kind]
    if not found:
        return []
    return [f"| {kind} | default | |", "|---|---|---|", *(_row(p) for p in found)]


def _row(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        name = f"`{_argument(parameter)}`"
    else:
        name = ", ".join(f"`{one}`" for one in parameter.opts)
        if not parameter.is_flag:
            name += f" `{parameter.metavar or parameter.name.upper()}`"
    default = parameter.default
    has_default = isinstance(default, str | int | float) and not isinstance(default, bool)
    shown = (
        "needed" if parameter.required else f"`{default}`" if has_default and default != "" else ""
    )
    return f"| {name} | {shown} | {_cell(parameter.help or '')} |"


def _cell(text: str) -> str:
    return _text(text).replace("|", r"\|").replace("\n", " ").replace("<x>", "&lt;x&gt;")


def _text(text: str) -> str:
    """The command's own markup as that of a page."""
    return re.sub(r"\[bold\](.*?)\[/bold\]", r"`\1`", text, flags=re.S).replace("\b", "")
