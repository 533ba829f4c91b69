"""The variables of the processes as typed values: variables/*.schema.json in Python, a test holds them equal.

Ids and hashes only. A version never changes once a process of it was deployed; a process that needs more gets a version
of its own, and workers serve every version that a live instance may carry.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

_Tenant = Annotated[str, Meta(pattern="^[a-z][a-z0-9-]{1,62}$")]
_Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
_ProcessId = Annotated[str, Meta(pattern="^[a-z][a-z0-9-]*-v[1-9][0-9]*$")]


class VariablesError(Exception):
    """Variables are not of a version that this release knows, or not of their version's schema; the message says how."""


class VariablesV1(
    Struct, frozen=True, rename="camel", kw_only=True, forbid_unknown_fields=True, tag_field="schemaVersion", tag=1
):
    """order-fulfillment.v1: which order, and a hash of what was ordered."""

    order_id: UUID
    tenant_id: _Tenant
    order_hash: _Sha256


class VariablesV2(
    Struct, frozen=True, rename="camel", kw_only=True, forbid_unknown_fields=True, tag_field="schemaVersion", tag=2
):
    """order-fulfillment.v2: version 1 and the process version that was chosen for the order."""

    order_id: UUID
    tenant_id: _Tenant
    order_hash: _Sha256
    process_id: _ProcessId


class _Subject(Struct, frozen=True, rename="camel"):
    """What every version has, and a later one would keep."""

    order_id: UUID
    tenant_id: _Tenant


Variables: TypeAlias = VariablesV1 | VariablesV2

VERSIONS: Mapping[int, type[Variables]] = {1: VariablesV1, 2: VariablesV2}


def names(version: int) -> frozenset[str]:
    """The variables of a version, as the engine knows them."""
    return frozenset({"schemaVersion", *(field.encode_name for field in msgspec.structs.fields(VERSIONS[version]))})


def read(variables: Mapping[str, Any]) -> Variables:
    """Hold an instance's variables to the schema of the version they claim.

    Raises:
        VariablesError: their version is not known here, or they are not of its schema.
    """
    version = variables.get("schemaVersion")
    if not isinstance(version, int) or version not in VERSIONS:
        known = ", ".join(str(number) for number in VERSIONS)
        raise VariablesError(f"variables schema version {version!r} is not one of {known}")
    try:
        found: Variables = msgspec.convert(dict(variables), Variables)
    except msgspec.ValidationError as error:
        raise VariablesError(f"variables are not of schema version {version}: {error}") from error
    return found


def subject(variables: Mapping[str, Any]) -> tuple[UUID, str] | None:
    """Order and tenant of variables that `read` refuses, where at least these two are there as every version has them."""
    try:
        found = msgspec.convert(dict(variables), _Subject)
    except msgspec.ValidationError:
        return None
    return found.order_id, found.tenant_id


def write(version: int, **values: str) -> dict[str, Any]:
    """The variables that a new instance gets: of `values`, by the engine's names, those that the version has.

    Raises:
        VariablesError: the version is not known here, or `values` are not of its schema.
    """
    known = names(version) if version in VERSIONS else frozenset()
    variables: dict[str, Any] = {name: value for name, value in values.items() if name in known}
    variables["schemaVersion"] = version
    read(variables)
    return variables
