"""What sections of configurations are made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Count", "Fraction", "Positive", "Strict"]

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]


class Strict(BaseModel):
    """A section of a configuration: a key that it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)
