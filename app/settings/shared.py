"""Settings that several units share, and the types of their values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Address
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit

from annotated_types import Le
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from app.settings.declaration import CHANGEABLE, INFRASTRUCTURE, POLICY, SECURITY, ValueClass
from app.settings.reader import Credential

_LAST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a TCP port; `str()` gives `host:port` with brackets around an IPv6 address."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _address(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    host, separator, port = value.strip().rpartition(":")
    if not separator or not host or not port.isdecimal() or not 0 < int(port) <= _LAST_PORT:
        raise ValueError("expected host:port with a port from 1 to 65535")
    return Address(host.removeprefix("[").removesuffix("]"), int(port))


def _addresses(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return tuple(_address(part) for part in value.split(","))


def _iso_duration(value: Any) -> Any:
    """Refuse what pydantic would also take for a duration: a bare number has no unit a reader can see."""
    if isinstance(value, str) and not value.startswith("P"):
        raise ValueError("expected an ISO 8601 duration such as PT30S")
    return value


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta():
        raise ValueError("expected a duration above zero")
    return value


def _url_parts(value: str) -> SplitResult:
    """Take a URL apart; what the library says of a wrong one may repeat it, and so a secret in it."""
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise ValueError("expected a URL with a host and, if any, a port from 1 to 65535") from None
    if not value.isascii() or not value.isprintable() or " " in value or port == 0:
        raise ValueError("expected a URL with a host and, if any, a port from 1 to 65535")
    if "?" in value or "#" in value:
        raise ValueError("expected no query and no fragment in the URL")
    return parts


def _url_without_password(*schemes: str) -> Any:
    def validate(value: str) -> str:
        parts = _url_parts(value)
        if parts.scheme not in schemes or not parts.hostname:
            raise ValueError(f"expected a URL of the form {schemes[0]}://user@host:port/name")
        if parts.password is not None:
            raise ValueError("expected no password in the URL: it is a credential")
        return value

    return AfterValidator(validate)


def _is_host(name: str) -> bool:
    """Tell whether what looks like an IPv4 address is one."""
    try:
        return not name.replace(".", "").isdecimal() or bool(IPv4Address(name))
    except ValueError:
        return False


def _http_url(value: str) -> str:
    parts = _url_parts(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or not _is_host(parts.hostname):
        raise ValueError("expected an http or https URL")
    if "@" in parts.netloc:
        raise ValueError("expected no user and no password in the URL: what proves us is a credential")
    return value.rstrip("/")


AddressValue = Annotated[Address, BeforeValidator(_address), ValueClass("host:port")]
AddressList = Annotated[
    tuple[Address, ...], BeforeValidator(_addresses), ValueClass("one or more host:port, separated by commas")
]
Duration = Annotated[
    timedelta, BeforeValidator(_iso_duration), AfterValidator(_positive), ValueClass("ISO 8601 duration above zero")
]
"""Each setting of this type says its longest value beside it, with `Le`: nobody means a year of waiting."""
DatabaseUrl = Annotated[str, _url_without_password("postgresql"), ValueClass("PostgreSQL URL without a password")]
RedisUrl = Annotated[str, _url_without_password("redis", "rediss"), ValueClass("Redis URL without a password")]
HttpUrl = Annotated[
    str, AfterValidator(_http_url), ValueClass("http or https URL without user, password, query or fragment")
]


TENANT_MODES_TO_COME = ("schema-per-tenant", "dedicated", "hybrid")
"""Known ways to keep tenants apart that this code does not have."""


def _tenant_mode(value: Any) -> Any:
    if value in TENANT_MODES_TO_COME:
        raise ValueError(f"{value} is known and not implemented; this release serves multi only")
    if value != "multi":
        raise ValueError(f"expected multi; known and not implemented: {', '.join(TENANT_MODES_TO_COME)}")
    return value


class ProcessSettings(BaseModel):
    """What every process is told: which environment, which instance, how much to log."""

    model_config = ConfigDict(frozen=True)

    app_env: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$"), INFRASTRUCTURE]
    app_instance_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9@._-]{0,39}$"), INFRASTRUCTURE]
    tenant_mode: Annotated[Literal["multi"], BeforeValidator(_tenant_mode), SECURITY]
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], CHANGEABLE]


class UnitSettings(ProcessSettings):
    """A unit that keeps running also shows its metrics."""

    metrics_bind: Annotated[AddressValue, INFRASTRUCTURE]


class DatabaseSettings(BaseModel):
    """How a unit reaches PostgreSQL with its own role."""

    model_config = ConfigDict(frozen=True)

    db_url: Annotated[DatabaseUrl, INFRASTRUCTURE]
    db_password: Credential
    db_statement_timeout: Annotated[Duration, Le(timedelta(minutes=10)), POLICY]


class DatabasePoolSettings(DatabaseSettings):
    """A unit that works on several transactions at a time."""

    db_pool_max: Annotated[int, Field(ge=1, le=100), POLICY]
