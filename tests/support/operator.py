"""Operators' commands in the test's own process, with real settings and credentials, as the unit of a host has them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from app.contracts.loader import load_external_systems
from app.entrypoints.admin import dispatch
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session
from tests.support.services import Services

SYSTEMS = load_external_systems()
CREDENTIALS = {
    "db-password": "db_admin_password",
    "db-owner-password": "db_owner_password",
    "kafka-password": "kafka_admin_password",
    "redis-password": "redis_admin_password",
    "smoke-client-secret": "issuer_client_secret",
}


class Operator:
    """A person with a name who runs commands.

    Args:
        services: the environment.
        folder: where the credentials are laid.
        name: who they are in the audit.
        changes: settings that differ from the usual ones.
        tokens: of external systems that are not the environment's own, by credential.
    """

    def __init__(
        self,
        services: Services,
        folder: Path,
        name: str = "ana",
        changes: Mapping[str, str] | None = None,
        tokens: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.services = services
        for file, secret in CREDENTIALS.items():
            (folder / file).write_text(services.secret(secret))
        for policy in SYSTEMS.values():
            token = policy.credential
            (folder / token).write_text((tokens or {}).get(token) or services.secret(token.replace("-", "_")))
        self._environ = {
            "APP_ENV": services.environment,
            "APP_INSTANCE_ID": "tests-admin",
            "TENANT_MODE": "multi",
            "TLS_CA_FILE": "",
            "LOG_LEVEL": "INFO",
            "DB_URL": services.database_url("admin"),
            "DB_OWNER_URL": services.database_url("owner"),
            "DB_STATEMENT_TIMEOUT": "PT10S",
            "KAFKA_BOOTSTRAP_SERVERS": services.address("kafka"),
            "KAFKA_USERNAME": "admin",
            "REDIS_URL": f"redis://admin@{services.address('redis')}/0",
            "CAMUNDA_GRPC_ADDRESS": services.address("zeebe"),
            "FEATURE_FLAG_DEFAULTS": "",
            "EXTERNAL_ENVIRONMENT": "non-production",
            "SMOKE_API_URL": "http://api",
            "SMOKE_TOKEN_URL": "http://issuer/token",
            "SMOKE_TENANT": "release-proof",
            **{
                policy.endpoint.setting: f"http://{services.address('simulator')}/{system}"
                for system, policy in SYSTEMS.items()
            },
            "CREDENTIALS_DIRECTORY": str(folder),
            **(changes or {}),
        }

    def session(self, document: object = None) -> Session:
        """What a command of theirs works with."""
        return Session(self._environ, self.name, document)

    async def run(self, *words: str, document: object = None) -> Outcome:
        """Run a command, with a document on its standard input, in a thread since commands have event loops of their own."""
        return await asyncio.to_thread(dispatch.run, list(words), self.session(document))
