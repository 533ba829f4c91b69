"""How every Kafka client of ours authenticates: SCRAM-SHA-256 as the unit's own user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class KafkaConnection:
    """Where the brokers are and who asks.

    Args:
        bootstrap_servers: `host:port` of brokers to learn the cluster from.
        username: the unit's Kafka user.
        password: its secret; kept out of `repr`.
        client_id: names the instance in the broker's logs and quotas.
    """

    bootstrap_servers: Sequence[str]
    username: str
    password: str = field(repr=False)
    client_id: str

    def options(self) -> dict[str, Any]:
        """Return the configuration common to producers, consumers and admin clients."""
        return {
            "bootstrap_servers": list(self.bootstrap_servers),
            "client_id": self.client_id,
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "SCRAM-SHA-256",
            "sasl_plain_username": self.username,
            "sasl_plain_password": self.password,
        }


def reason_of(error: BaseException) -> str:
    """Return one line that names the error; the client's own texts are sometimes empty."""
    text = " ".join(str(error).split())
    kind = type(error).__name__
    return text if kind in text else f"{kind}: {text}" if text else kind
