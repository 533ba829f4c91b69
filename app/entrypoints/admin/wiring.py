# ruff: noqa: PLC0415 - a driver is imported by the command that asks for it: most commands start in half the time
"""Gives commands their collaborators, each made when a command asks for it: a command that needs no Kafka opens none."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from pydantic import BaseModel, ValidationError

from app.application.operations import OperationError
from app.contracts.loader import Topic, load
from app.runtime.ids import UuidV7Ids
from app.runtime.release import Release, installed_release
from app.settings.admin import AdminSettings
from app.settings.reader import credentials_directory, read

if TYPE_CHECKING:
    from app.adapters.kafka.administration import KafkaAdministration
    from app.adapters.kafka.connection import KafkaConnection
    from app.adapters.kafka.engine_records import EngineRecords
    from app.adapters.kafka.event_log import EventLog
    from app.adapters.postgres.migrations import Migrator
    from app.adapters.postgres.pool import Connection
    from app.adapters.zeebe.operations import EngineOperations

_Model = TypeVar("_Model", bound=BaseModel)

_CHECKOUT = Path(__file__).resolve().parents[3]


class InputError(OperationError):
    """A command was given no or malformed input on standard input."""


class Session:
    """One operator's run.

    Args:
        environ: the process environment as it was taken at start.
        operator: who runs the command.
        document: input of the command, or None to read it from standard input when a command asks.
    """

    def __init__(self, environ: Mapping[str, str], operator: str, document: Any = None) -> None:
        self.environ = environ
        self.operator = operator
        self._document = document

    def with_input(self, document: Any) -> Session:
        """The same run with other input; settings are read once."""
        session = Session(self.environ, self.operator, document)
        if "settings" in self.__dict__:
            session.__dict__["settings"] = self.settings
        return session

    @cached_property
    def settings(self) -> AdminSettings:
        """The settings; raises SettingsError with every problem."""
        return read(AdminSettings, self.environ, credentials_directory(self.environ))

    @cached_property
    def release(self) -> Release:
        """The release these commands belong to."""
        return installed_release()

    def bundled(self, name: str) -> Path:
        """A folder of the bundle, such as `migrations`: below the installation, or in the checkout."""
        installed = Path(sys.prefix) / "share" / "cpq-oms" / name
        return installed if installed.is_dir() else _CHECKOUT / name

    def input(self) -> Any:
        """The JSON document on standard input.

        Raises:
            InputError: nothing is piped in, or it is not JSON.
        """
        if self._document is None:
            if sys.stdin.isatty():
                raise InputError("this command reads a JSON document from standard input")
            try:
                self._document = json.load(sys.stdin)
            except ValueError as error:
                raise InputError(f"standard input is not JSON: {error}") from error
        return self._document

    def given(self, model: type[_Model]) -> _Model:
        """What is on standard input, as the model says.

        Raises:
            InputError: it is missing, or a field is wrong; each is named.
        """
        try:
            return model.model_validate(self.input())
        except ValidationError as error:
            raise InputError(
                *(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors())
            ) from error

    @asynccontextmanager
    async def database(self) -> AsyncIterator[Connection]:
        """A session of the audited cross-tenant role."""
        from app.adapters.postgres.operator_session import open_session

        settings = self.settings
        async with open_session(
            settings.db_url, settings.db_password.accepted, self.application_name, settings.db_statement_timeout
        ) as connection:
            yield connection

    @asynccontextmanager
    async def owner_database(self) -> AsyncIterator[Connection]:
        """A session of the schema's owner: for grants, and for the audit of what comes before there are grants."""
        from app.adapters.postgres.operator_session import open_session

        settings = self.settings
        async with open_session(
            settings.db_owner_url,
            settings.db_owner_password.accepted,
            self.application_name,
            settings.db_statement_timeout,
        ) as connection:
            yield connection

    def migrator(self) -> Migrator:
        """The migration runner, on the bundle's files."""
        from app.adapters.postgres.migrations import Migrator

        settings = self.settings
        password = settings.db_owner_password.get_secret_value()
        return Migrator(settings.db_owner_url, password, self.bundled("migrations"), self.application_name)

    @contextmanager
    def kafka(self) -> Iterator[KafkaAdministration]:
        """A session of the cluster's super user; call its methods in a thread."""
        from app.adapters.kafka.administration import open_administration

        with open_administration(self._kafka_connection()) as administration:
            yield administration

    def engine_records(self) -> EngineRecords:
        """A reader of the engine's exported records; call its methods in a thread."""
        from app.adapters.kafka.engine_records import EngineRecords

        return EngineRecords(self._kafka_connection())

    @contextmanager
    def event_log(self, topic: str) -> Iterator[EventLog]:
        """A reader of a topic's events from their beginning; call its methods in a thread."""
        from app.adapters.kafka.event_log import EventLog

        log = EventLog(self._kafka_connection().options(), topic)
        try:
            yield log
        finally:
            log.close()

    @asynccontextmanager
    async def engine(self) -> AsyncIterator[EngineOperations]:
        """A session of the workflow engine's gateway."""
        from app.adapters.zeebe.channel import gateway_identity
        from app.adapters.zeebe.operations import open_engine

        settings = self.settings
        identity = gateway_identity(
            settings.tls_ca_file,
            settings.camunda_certificate.get_secret_value(),
            settings.camunda_key.get_secret_value(),
        )
        async with open_engine(settings.camunda_addresses, identity) as operations:
            yield operations

    @asynccontextmanager
    async def audited(
        self, connection: Connection, command: str, reason: str | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """Commit an audit row before the command's work and its outcome after it; what is put in the dict goes along.

        Only the command that creates the audit table has no row while it works; it gets its row at the end.
        """
        from app.adapters.postgres.admin_runs import AdminRuns

        runs, run_id, detail = AdminRuns(connection), self.new_id(), dict[str, Any]()
        opened = await runs.exists()
        if opened:
            await runs.open(run_id, command, self.operator, reason)
        try:
            yield detail
        except BaseException as error:
            if opened:
                try:
                    await runs.close(run_id, succeeded=False, detail=detail | {"error": str(error)})
                except Exception as unrecorded:  # noqa: BLE001 - the first error is the one to report
                    error.add_note(f"and its audit row stays open: {unrecorded}")
            raise
        if opened:
            await runs.close(run_id, succeeded=True, detail=detail)
        elif await runs.exists():
            await runs.record(run_id, command, self.operator, reason, succeeded=True, detail=detail)

    @asynccontextmanager
    async def audited_transaction(
        self, command: str, reason: str | None = None
    ) -> AsyncIterator[tuple[Connection, dict[str, Any]]]:
        """One transaction of the operators' role with its audit row around it, for commands that change rows and no more."""
        async with (
            self.database() as connection,
            self.audited(connection, command, reason) as detail,
            connection.transaction(),
        ):
            yield connection, detail

    def new_id(self) -> UUID:
        """A new identifier."""
        return UuidV7Ids().new()

    def kafka_contract(self) -> tuple[Mapping[str, Topic], str]:
        """The declared topics, held against every policy, and the Kafka user of the consumers; raises ContractError."""
        contracts = load()
        user = contracts.units["consumer"].kafka_user
        if user is None:
            raise InputError("units.yml: the consumer has no kafka_user")
        return contracts.topics, user

    @property
    def application_name(self) -> str:
        """How sessions of this run are named in the database."""
        return f"{self.settings.app_instance_id}/{self.release.release_id}"

    def _kafka_connection(self) -> KafkaConnection:
        from app.adapters.kafka.connection import KafkaConnection

        return KafkaConnection.of(self.settings)
