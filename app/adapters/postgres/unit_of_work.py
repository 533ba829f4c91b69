"""One PostgreSQL transaction with its tenant set: row-level security does the rest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from types import TracebackType
from typing import Self

import psycopg
from psycopg import errors, sql
from psycopg.pq import TransactionStatus
from psycopg_pool import PoolClosed, PoolTimeout

from app.adapters.postgres.audit import PostgresAuditTrail
from app.adapters.postgres.catalog import PostgresCatalogRepository
from app.adapters.postgres.fulfillment import PostgresFulfillmentRepository
from app.adapters.postgres.idempotency import PostgresIdempotencyRepository
from app.adapters.postgres.orders import PostgresOrderRepository
from app.adapters.postgres.outbox import PostgresOutboxStore
from app.adapters.postgres.pool import EPOCH_OVER, Connection, Pool
from app.adapters.postgres.process_routes import PostgresProcessRouteRepository
from app.adapters.postgres.quotes import PostgresQuoteRepository
from app.adapters.postgres.workflow_references import PostgresWorkflowReferenceRepository
from app.application.ports import ConcurrentChange, StoreUnavailable, UnitOfWorkFactory
from app.domain.values import TenantId
from app.runtime.tracing import step

# One round trip. The setting ends with the transaction, so a pooled connection never carries a tenant over.
_BEGIN = sql.SQL("BEGIN; SELECT set_config('cpq.tenant_id', {}, true)")
_BEGIN_READ_ONLY = sql.SQL("BEGIN READ ONLY; SELECT set_config('cpq.tenant_id', {}, true)")

_OPEN = (TransactionStatus.INTRANS, TransactionStatus.INERROR)


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn the driver's errors into those of the ports; anything else is a defect and passes through."""
    try:
        yield
    except (errors.DeadlockDetected, errors.SerializationFailure) as error:
        raise ConcurrentChange(type(error).__name__) from error
    except (
        psycopg.OperationalError,  # also statement and lock timeouts, shutdown, full disk, an epoch that is over
        errors.ReadOnlySqlTransaction,
        PoolTimeout,
        PoolClosed,
    ) as error:
        raise StoreUnavailable(_reason(error)) from error


def _reason(error: Exception) -> str:
    """The error's name; what has none of its own says what it is."""
    if isinstance(error, psycopg.Error) and error.sqlstate == EPOCH_OVER:
        return error.diag.message_primary or EPOCH_OVER
    return type(error).__name__


class PostgresUnitOfWork:
    """A transaction of one tenant; see `app.application.ports.UnitOfWork`. A read-only one refuses to write wherever it is."""

    def __init__(self, pool: Pool, tenant_id: TenantId, *, read_only: bool = False) -> None:
        self._pool = pool
        self._tenant_id = tenant_id
        self._begin = _BEGIN_READ_ONLY if read_only else _BEGIN
        self._connection: Connection | None = None
        self._step = ExitStack()

    @property
    def tenant_id(self) -> TenantId:
        return self._tenant_id

    @property
    def connection(self) -> Connection:
        """The connection, for repositories; only inside the `async with` block."""
        if self._connection is None:
            raise RuntimeError("the unit of work is not open")
        return self._connection

    @cached_property
    def catalog(self) -> PostgresCatalogRepository:
        return PostgresCatalogRepository(self.connection, self._tenant_id)

    @cached_property
    def quotes(self) -> PostgresQuoteRepository:
        return PostgresQuoteRepository(self.connection)

    @cached_property
    def orders(self) -> PostgresOrderRepository:
        return PostgresOrderRepository(self.connection)

    @cached_property
    def idempotency(self) -> PostgresIdempotencyRepository:
        return PostgresIdempotencyRepository(self.connection, self._tenant_id)

    @cached_property
    def audit(self) -> PostgresAuditTrail:
        return PostgresAuditTrail(self.connection)

    @cached_property
    def outbox(self) -> PostgresOutboxStore:
        return PostgresOutboxStore(self.connection)

    @cached_property
    def fulfillment(self) -> PostgresFulfillmentRepository:
        return PostgresFulfillmentRepository(self.connection)

    @cached_property
    def workflow_references(self) -> PostgresWorkflowReferenceRepository:
        return PostgresWorkflowReferenceRepository(self.connection)

    @cached_property
    def process_routes(self) -> PostgresProcessRouteRepository:
        return PostgresProcessRouteRepository(self.connection)

    async def __aenter__(self) -> Self:
        begin = self._begin.format(sql.Literal(self._tenant_id))
        with ExitStack() as opened, translated_errors():
            opened.enter_context(step("transaction", "client", attributes={"db.system.name": "postgresql"}))
            # After a restart of the server every pooled connection is dead. Nothing has happened yet, so each dead one
            # is handed back, which makes the pool replace it, and the next one is tried.
            for last_try in (*[False] * self._pool.max_size, True):
                connection = await self._pool.getconn()
                try:
                    await connection.execute(begin)
                except psycopg.OperationalError:
                    await self._pool.putconn(connection)
                    if last_try or not connection.broken:
                        raise
                except BaseException:
                    await self._pool.putconn(connection)
                    raise
                else:
                    self._connection, self._step = connection, opened.pop_all()
                    break
        return self

    async def commit(self) -> None:
        if self.connection.info.transaction_status is TransactionStatus.INERROR:
            # PostgreSQL answers COMMIT of a failed transaction with a silent rollback.
            raise RuntimeError("commit after a failed statement")
        with translated_errors():
            await self.connection.commit()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection = self.connection
        self._connection = None
        with self._step, translated_errors():
            try:
                # Any other status is a broken connection, which has rolled back by itself and which the pool replaces.
                if connection.info.transaction_status in _OPEN:
                    await connection.rollback()
            finally:
                await self._pool.putconn(connection)
            if isinstance(error, psycopg.Error):
                raise error


def unit_of_work_factory(pool: Pool) -> UnitOfWorkFactory:
    """Bind units of work to a pool."""

    def open_unit_of_work(tenant_id: TenantId) -> PostgresUnitOfWork:
        return PostgresUnitOfWork(pool, tenant_id)

    return open_unit_of_work
