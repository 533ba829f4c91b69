"""The dashboards as declared beside this module."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

Text = Annotated[str, Field(min_length=1)]


class Panel(BaseModel):
    """One plot: a question to Prometheus, the unit of its values, and how each series is named."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: Text
    unit: Literal["count", "per second", "seconds", "bytes", "share"]
    query: Text
    legend: str = ""


class Dashboard(BaseModel):
    """Panels that belong together."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z]+$")]
    title: Text
    about: Text
    panels: Annotated[tuple[Panel, ...], Field(min_length=1)]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    dashboards: tuple[Dashboard, ...]


def load_dashboards() -> Mapping[str, Dashboard]:
    """Return them by name, in their order.

    Raises:
        pydantic.ValidationError: the file is not as it should be.
    """
    text = Path(__file__).with_name("dashboards.yml").read_text(encoding="utf-8")
    return {dashboard.name: dashboard for dashboard in _File.model_validate(yaml.safe_load(text)).dashboards}
