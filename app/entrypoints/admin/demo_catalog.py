"""The catalogs that a release publishes where it is asked to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Annotated, Any

import typer
import yaml

ProofTenant = Annotated[
    str | None,
    typer.Option(
        "--tenant",
        help="publish for this tenant alone, which exists for the proof of releases, what the first demo tenant has",
    ),
]


def seeded_tenants(tenant: str | None) -> Sequence[Mapping[str, Any]]:
    """Return the demo tenants with their offerings, or the named one with those of the first."""
    text = resources.files("app.entrypoints.admin").joinpath("demo_catalog.yml").read_text()
    tenants: list[dict[str, Any]] = yaml.safe_load(text)["tenants"]
    return tenants if tenant is None else [{**tenants[0], "tenant_id": tenant, "display_name": tenant}]
