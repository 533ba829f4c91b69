"""How every Kafka client of ours authenticates: SCRAM as the unit's own user.

A broker keeps one password of a user for each mechanism. While one is rotated it has the present one for SCRAM-SHA-256 and the next one for
SCRAM-SHA-512 (app/contracts/secrets.yml); a client that was given both uses the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from app.settings.shared import KafkaSettings


@dataclass(frozen=True, slots=True)
class KafkaConnection:
    """Where the brokers are and who asks.

    Args:
        bootstrap_servers: `host:port` of brokers to learn the cluster from.
        username: the unit's Kafka user.
        password: its secret; kept out of `repr`.
        client_id: names the instance in the broker's logs and quotas.
        ca_file: certificates that the brokers' own must come from; empty where they speak no TLS.
        next_password: the one that follows it, while it is being rotated; kept out of `repr`.
    """

    bootstrap_servers: Sequence[str]
    username: str
    password: str = field(repr=False)
    client_id: str
    ca_file: str = ""
    next_password: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, settings: KafkaSettings) -> Self:
        """Return the connection of a unit, named by its instance."""
        return cls(
            bootstrap_servers=[str(address) for address in settings.kafka_bootstrap_servers],
            username=settings.kafka_username,
            password=settings.kafka_password.get_secret_value(),
            next_password=settings.kafka_password.other,
            client_id=settings.app_instance_id,
            ca_file=settings.tls_ca_file,
        )

    def options(self) -> dict[str, Any]:
        """Return the configuration common to producers, consumers and admin clients."""
        security = {"security_protocol": "SASL_SSL", "ssl_cafile": self.ca_file} if self.ca_file else {}
        return {
            "bootstrap_servers": list(self.bootstrap_servers),
            "client_id": self.client_id,
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "SCRAM-SHA-256" if self.next_password is None else "SCRAM-SHA-512",
            "sasl_plain_username": self.username,
            "sasl_plain_password": self.next_password or self.password,
            **security,
        }


def reason_of(error: BaseException) -> str:
    """Return one line that names the error; the client's own texts are sometimes empty."""
    text = " ".join(str(error).split())
    kind = type(error).__name__
    return text if kind in text else f"{kind}: {text}" if text else kind
