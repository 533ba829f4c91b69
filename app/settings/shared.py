"""Settings that several units share, and the types of their values."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Address
from typing import Annotated, Any, Literal, Self
from urllib.parse import SplitResult, urlsplit

from annotated_types import Le
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from app.runtime.tracing import Destination
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


def _is_ipv4(address: Address) -> bool:
    try:
        IPv4Address(address.host)
    except ValueError:
        return False
    return True


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


def _without_password(value: str, *schemes: str) -> str:
    parts = _url_parts(value)
    if parts.scheme not in schemes or not parts.hostname:
        raise ValueError(f"expected a URL of the form {schemes[0]}://user@host:port/name")
    if parts.password is not None:
        raise ValueError("expected no password in the URL: it is a credential")
    return value


def _redis_url(value: str) -> str:
    return _without_password(value, "redis", "rediss")


_DATABASE_PARAMETERS = {
    "target_session_attrs": re.compile("primary"),
    "sslmode": re.compile("verify-full"),
    "sslrootcert": re.compile(r"/[\w./-]+"),
}


def _database_url(value: str) -> str:
    """Take one or several hosts, and of libpq's parameters those by which a client finds the primary and trusts it."""
    base, question, query = value.partition("?")
    scheme, _, rest = base.partition("://")
    place, _, name = rest.partition("/")
    user, at, hosts = place.rpartition("@")
    for host in hosts.split(","):
        _without_password(f"{scheme}://{user}{at}{host}/{name}", "postgresql")
    parameters = [parameter.partition("=")[::2] for parameter in query.split("&")] if question else []
    known = [
        key for key, text in parameters if key in _DATABASE_PARAMETERS and _DATABASE_PARAMETERS[key].fullmatch(text)
    ]
    if len(known) != len(parameters) or len(set(known)) != len(known):
        raise ValueError(
            "expected no parameters but, once each, target_session_attrs=primary, sslmode=verify-full and "
            "sslrootcert with an absolute path"
        )
    return value


_PREFERS_STANDBY = "target_session_attrs=prefer-standby"


def _read_url(value: str) -> str:
    """Take the URL of a cluster whose standby is asked first, or nothing."""
    if value and _PREFERS_STANDBY not in value.partition("?")[2].split("&"):
        raise ValueError(f"expected {_PREFERS_STANDBY}, or nothing where there is no standby")
    if value:
        _database_url(value.replace(_PREFERS_STANDBY, "target_session_attrs=primary"))
    return value


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


def entries_of(value: str) -> list[str]:
    """The entries of a list separated by commas."""
    return [entry.strip() for entry in value.split(",") if entry.strip()]


def pairs_of(model: type[BaseModel], name_pattern: re.Pattern[str], kind: str) -> Callable[[Any], Any]:
    """Make a reader of `name.field=value` pairs, which answers a `model` by name.

    Every wrong pair is named, by its place where it may be a secret.
    """

    def read(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        found: dict[str, dict[str, str]] = {}
        problems = []
        for place, pair in enumerate(entries_of(value), 1):
            left, is_pair, setting = pair.partition("=")
            name, is_name, field = left.strip().rpartition(".")
            if not is_pair or not is_name or not name_pattern.fullmatch(name):
                problems.append(f"entry {place}: expected <{kind}>.<field>=<value>")
            elif field not in model.model_fields:
                problems.append(f"entry {place}: expected one of {', '.join(model.model_fields)} after {name}")
            elif field in found.get(name, {}):
                problems.append(f"{name}.{field}: is there twice")
            else:
                found.setdefault(name, {})[field] = setting.strip()
        read_models = {}
        for name, fields in found.items():
            try:
                read_models[name] = model.model_validate(fields)
            except ValidationError as error:
                problems += [
                    f"{name}.{detail['loc'][0]}: {detail['msg'].removeprefix('Value error, ')}"
                    for detail in error.errors()
                ]
        if problems:
            raise ValueError("; ".join(problems))
        return read_models

    return read


AddressValue = Annotated[Address, BeforeValidator(_address), ValueClass("host:port")]
AddressList = Annotated[
    tuple[Address, ...], BeforeValidator(_addresses), ValueClass("one or more host:port, separated by commas")
]
Duration = Annotated[
    timedelta, BeforeValidator(_iso_duration), AfterValidator(_positive), ValueClass("ISO 8601 duration above zero")
]
"""Each setting of this type says its longest value beside it, with `Le`: nobody means a year of waiting."""
DatabaseUrl = Annotated[
    str, AfterValidator(_database_url), ValueClass("PostgreSQL URL without a password, of one or more hosts")
]
ReadUrl = Annotated[
    str,
    AfterValidator(_read_url),
    ValueClass("PostgreSQL URL without a password, of several hosts of which a standby is preferred, or empty"),
]
RedisUrl = Annotated[str, AfterValidator(_redis_url), ValueClass("Redis URL without a password")]
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
    """What every process is told: which environment, which instance, how much to log, and whose certificates it trusts.

    `tls_ca_file` holds the roots of the environment's own services. Empty, these are reached without TLS; otherwise with nothing else.
    """

    model_config = ConfigDict(frozen=True)

    app_env: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$"), INFRASTRUCTURE]
    app_instance_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9@._-]{0,39}$"), INFRASTRUCTURE]
    tenant_mode: Annotated[Literal["multi"], BeforeValidator(_tenant_mode), SECURITY]
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], CHANGEABLE]
    tls_ca_file: Annotated[str, Field(pattern=r"^(/.+)?$"), ValueClass("absolute path, or empty"), SECURITY]


class UnitSettings(ProcessSettings):
    """A unit that keeps running also shows its metrics."""

    metrics_bind: Annotated[AddressValue, INFRASTRUCTURE]


class TracedSettings(UnitSettings):
    """A unit that sends its spans to the observability host; to nobody where `otlp_endpoint` is empty."""

    otlp_endpoint: Annotated[Literal[""] | HttpUrl, ValueClass("http or https URL, or empty"), INFRASTRUCTURE]

    def traces_of(self, unit: str) -> Destination:
        """Return where the spans of this process go."""
        return Destination(self.otlp_endpoint, self.tls_ca_file, unit, self.app_instance_id, self.app_env)


class ColouredSettings(ProcessSettings):
    """A unit of whose roles two colours may be up while one works.

    `app_colour` is the set of processes that this one belongs to; those that are told nothing are a set of their own.
    """

    app_colour: Annotated[Literal["none", "blue", "green"], INFRASTRUCTURE] = "none"


class DatabaseSettings(ProcessSettings):
    """How a unit reaches PostgreSQL with its own role."""

    db_url: Annotated[DatabaseUrl, INFRASTRUCTURE]
    db_password: Credential
    db_statement_timeout: Annotated[Duration, Le(timedelta(minutes=10)), POLICY]


class KafkaSettings(ProcessSettings):
    """How a unit reaches the brokers with its own user."""

    kafka_bootstrap_servers: Annotated[AddressList, INFRASTRUCTURE]
    kafka_username: Annotated[str, Field(min_length=1), INFRASTRUCTURE]
    kafka_password: Credential


class EngineSettings(BaseModel):
    """How a unit reaches the gateways of the workflow engine, any of which will do.

    Where there is TLS it shows `camunda_certificate`, whose name the gateway must know.
    """

    model_config = ConfigDict(frozen=True)

    camunda_grpc_address: Annotated[AddressList, INFRASTRUCTURE]
    # No `Credential`: each is one text of several lines, and never has a former one beside it.
    camunda_certificate: SecretStr = SecretStr("")
    camunda_key: SecretStr = SecretStr("")

    @property
    def camunda_addresses(self) -> str:
        """The gateways as one text."""
        return ",".join(map(str, self.camunda_grpc_address))

    @model_validator(mode="after")
    def _several_have_addresses(self) -> Self:
        """A list of names cannot be followed from one to the next."""
        if len(self.camunda_grpc_address) > 1 and not all(map(_is_ipv4, self.camunda_grpc_address)):
            raise ValueError("CAMUNDA_GRPC_ADDRESS: expected IPv4 addresses where there are several gateways")
        return self


class DatabasePoolSettings(DatabaseSettings):
    """A unit that works on several transactions at a time."""

    db_pool_max: Annotated[int, Field(ge=1, le=100), POLICY]


class StandbyReadSettings(DatabasePoolSettings):
    """A unit of whose queries a standby may answer those that app/contracts/standby_reads.yml names.

    `db_read_url` empty: there is no standby, and the primary answers all. Otherwise `db_read_pool_max` connections of their own are for it.
    """

    db_read_url: Annotated[ReadUrl, INFRASTRUCTURE]
    db_read_pool_max: Annotated[int, Field(ge=1, le=100), POLICY]
