"""What the use cases need from the outside, as protocols. Technology implements them in app/adapters.

Repositories of one unit of work share one transaction and one tenant: row-level security hides every other tenant's
rows, so "not there" and "not yours" are the same answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol, TypeAlias, TypeVar
from uuid import UUID

from app.domain.catalog import CatalogEdition, ProductOffering
from app.domain.external_calls import ExternalCallAttempt
from app.domain.fulfillment import FalloutCase, FulfillmentTask, HeldJob, WorkflowReference, WorkflowRequest
from app.domain.order import Order, OrderTransition
from app.domain.process_route import ProcessRoute
from app.domain.quote import Quote
from app.domain.values import Actor, OfferingId, OrderId, QuoteId, TenantId
from app.messaging.envelope import Envelope

T = TypeVar("T")


class StoreUnavailable(Exception):  # noqa: N818 (a condition that passes, not a defect)
    """The database cannot be asked now: down, out of connections, or over its time limit. Nothing was committed."""


class ConcurrentChange(Exception):  # noqa: N818 (somebody else won; nothing is broken)
    """Another transaction changed the same thing first; nothing of this one was committed."""


class CatalogRepository(Protocol):
    """Published catalog versions; a published version never changes."""

    async def active_version(self) -> int | None:
        """The version that new quotes are made from, or None when nothing is published."""
        ...

    async def edition(self, catalog_version: int) -> CatalogEdition | None:
        """The content that a version has here, or None when there is no such version."""
        ...

    async def offerings(
        self, catalog_version: int, offering_ids: Sequence[OfferingId]
    ) -> dict[OfferingId, ProductOffering]:
        """The named offerings of a version, without those it does not have."""
        ...

    async def sellable_offerings(self, catalog_version: int) -> list[ProductOffering]:
        """All offerings of a version that are sold on their own, by identifier."""
        ...


class CatalogCache(Protocol):
    """A faster copy of published offerings. It may forget at any time and may be down: it then knows none, without error."""

    async def offerings(
        self, tenant_id: TenantId, edition: CatalogEdition, offering_ids: Sequence[OfferingId]
    ) -> dict[OfferingId, ProductOffering]:
        """Those of the named offerings that are cached, as this edition has them."""
        ...

    async def put_offerings(
        self, tenant_id: TenantId, edition: CatalogEdition, offerings: Sequence[ProductOffering]
    ) -> int:
        """Remember offerings of a published version; answer how many were, which may be none."""
        ...

    async def forget_others(self, tenant_id: TenantId, catalog_version: int) -> int:
        """Make room: forget the tenant's offerings of all other versions; answer how many were forgotten."""
        ...


class QuoteRepository(Protocol):
    """Quotes of the transaction's tenant."""

    async def add(self, quote: Quote) -> None:
        """Store a new quote with its items."""
        ...

    async def get(self, quote_id: QuoteId, *, for_update: bool = False) -> Quote | None:
        """Read a quote; `for_update` holds it until the transaction ends."""
        ...

    async def save(self, quote: Quote, *, expected_version: int) -> None:
        """Store a quote's new state; prices have `replace_prices`.

        Raises:
            ConcurrentChange: the stored version is no longer `expected_version`.
        """
        ...

    async def replace_prices(self, quote: Quote) -> None:
        """Store the items' totals and price steps in place of earlier ones."""
        ...


class OrderRepository(Protocol):
    """Product orders of the transaction's tenant."""

    async def add(self, order: Order, transition: OrderTransition) -> None:
        """Store a new order, its items and its first transition.

        Raises:
            ConcurrentChange: the quote already has an order.
        """
        ...

    async def get(self, order_id: OrderId, *, for_update: bool = False) -> Order | None:
        """Read an order; `for_update` holds it until the transaction ends."""
        ...

    async def id_for_quote(self, quote_id: QuoteId) -> OrderId | None:
        """The order that a quote became, or None."""
        ...

    async def save(self, order: Order, transition: OrderTransition, *, expected_version: int) -> None:
        """Store an order's new state with the transition that led there.

        Raises:
            ConcurrentChange: the stored version is no longer `expected_version`.
        """
        ...


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """An answer kept for its Idempotency-Key: a replay sends these very bytes."""

    request_sha256: str
    status_code: int
    headers: Mapping[str, str]
    body: bytes


class IdempotencyRepository(Protocol):
    """Durable idempotency records of the transaction's tenant."""

    async def claim(self, principal: str, key: str) -> bool:
        """Try to hold the key until the transaction ends; False when another transaction holds it now."""
        ...

    async def find(self, principal: str, key: str, now: datetime) -> StoredResponse | None:
        """The stored answer, unless it has expired."""
        ...

    async def store(
        self, principal: str, key: str, response: StoredResponse, *, now: datetime, expires_at: datetime
    ) -> None:
        """Keep an answer; an expired record of the same key is replaced.

        Raises:
            ConcurrentChange: an unexpired record of the key exists.
        """
        ...


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who did what to what, why, and the state before and after; appended, never changed."""

    audit_id: UUID
    actor: Actor
    action: str
    target_type: str
    target_id: str
    occurred_at: datetime
    reason: str | None = None
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None


class AuditTrail(Protocol):
    """Append-only audit entries of the transaction's tenant."""

    async def append(self, entry: AuditEntry) -> None:
        """Add an entry to the transaction."""
        ...


class OutboxStore(Protocol):
    """Events that leave the database only when the transaction that made them is committed."""

    async def append(self, envelopes: Sequence[Envelope]) -> None:
        """Add events to the transaction and wake the relay on commit."""
        ...


class FulfillmentRepository(Protocol):
    """Fulfillment tasks, calls to external systems and fallout cases of the transaction's tenant."""

    async def add(self, tasks: Sequence[FulfillmentTask]) -> None:
        """Store an order's tasks."""
        ...

    async def tasks(self, order_id: OrderId) -> list[FulfillmentTask]:
        """The order's tasks, held until the transaction ends; hold the order first."""
        ...

    async def save(self, task: FulfillmentTask) -> None:
        """Store a task's new state."""
        ...

    async def begin(self, task: FulfillmentTask, job: HeldJob) -> None:
        """Store a task whose run begins, and the job it begins by."""
        ...

    async def forget_jobs(self, order_id: OrderId) -> None:
        """Forget which jobs an order had: its process has nothing left to do."""
        ...

    async def last_attempt(self, order_id: OrderId, step: str) -> ExternalCallAttempt | None:
        """The newest call of a step, or None before the first."""
        ...

    async def add_attempt(self, attempt: ExternalCallAttempt) -> None:
        """Store a call that is about to go out.

        Raises:
            ConcurrentChange: another run of the step prepared a call at the same moment.
        """
        ...

    async def save_attempt(self, attempt: ExternalCallAttempt) -> None:
        """Store what became of a call."""
        ...

    async def open_fallout(self, case: FalloutCase) -> bool:
        """Open a case for a person; False when one is open for the step already."""
        ...


class WorkflowReferenceRepository(Protocol):
    """Which process instance drives which order, for the transaction's tenant."""

    async def request(self, request: WorkflowRequest) -> None:
        """Store a pending reference that the starter turns into exactly one process instance; wakes it on commit."""
        ...

    async def claim(self, order_id: OrderId, lease: timedelta) -> ClaimedStart | None:
        """Take a due reference for one start attempt and push its next attempt `lease` ahead.

        None when it is not due: started meanwhile, or claimed by another starter. A starter that dies after its claim
        costs the order the lease and no more.
        """
        ...

    async def postpone(self, order_id: OrderId, delay: timedelta, error: str) -> None:
        """Try a pending reference again after `delay`."""
        ...

    async def get(self, order_id: OrderId) -> WorkflowReference | None:
        """Read a reference, held until the transaction ends."""
        ...

    async def save(self, reference: WorkflowReference) -> None:
        """Store a reference's new state."""
        ...


class ProcessRouteRepository(Protocol):
    """Routes of the transaction's tenant and those for every tenant."""

    async def current(self, business_process: str) -> list[ProcessRoute]:
        """The routes of a business process that nobody removed, in no order; their validity is the caller's to judge."""
        ...


@dataclass(frozen=True, slots=True)
class ClaimedStart:
    """A reference claimed for one start attempt, and whether the engine was ever given its process."""

    reference: WorkflowReference
    is_process_deployed: bool


@dataclass(frozen=True, slots=True)
class DueStart:
    """A pending reference whose time has come."""

    order_id: OrderId
    tenant_id: TenantId


class StartQueue(Protocol):
    """Due references of all tenants: their names only, the orders stay behind each tenant's wall."""

    async def due(self, limit: int, flag: str) -> list[DueStart]:
        """The references that have waited longest, of the tenants for which a flag is on.

        Those of other tenants keep their place and stand in nobody's way.

        Raises:
            StoreUnavailable: the database cannot be asked now.
        """
        ...


class FeatureFlags(Protocol):
    """Switches set at run time; asked anew at each use, so that a change is in force at once."""

    async def is_enabled(self, flag: str, tenant_id: TenantId | None = None) -> bool:
        """The flag's value for the tenant where it has one of its own, else in this environment, else its default.

        Raises:
            StoreUnavailable: the database cannot be asked now.
        """
        ...


class EngineUnavailable(Exception):  # noqa: N818 (a condition that passes, not a defect)
    """The workflow engine did not answer, or asked for less load. Whether it acted is not known."""


class EngineRefused(Exception):  # noqa: N818 (an answer, not a defect)
    """The workflow engine answered that the command is wrong; repeating it will not help by itself."""


class WorkflowEngine(Protocol):
    """The engine that runs processes."""

    async def start(
        self, process_id: str, *, correlation_key: str, message_id: str, variables: Mapping[str, Any]
    ) -> bool:
        """Publish the start message of a process; False when this message id had arrived before.

        Raises:
            EngineUnavailable: repeat with the same message id, as often as it takes.
            EngineRefused: the message itself is wrong.
        """
        ...


@dataclass(frozen=True, slots=True)
class CallDone:
    """The external system did the work, now or under the same key before."""

    reference: str
    status: int


@dataclass(frozen=True, slots=True)
class CallRefused:
    """The external system understood and will not do it; nothing was done."""

    error: str
    status: int


@dataclass(frozen=True, slots=True)
class CallNotDone:
    """Nothing was done, and a later call may succeed.

    With `retry_after` the time was wrong, not the call: the system or its guard asks for that pause, and the run does
    not count towards the limit of runs.
    """

    error: str
    status: int | None = None
    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class CallUnknown:
    """No answer can be relied on: only a query can tell.

    With `retry_after` it makes no sense to ask before: the work goes on there, or nobody may ask now. Such a run does not
    count towards the limit of runs either. A query that could not be sent is this, never `CallNotDone`.
    """

    error: str
    status: int | None = None
    retry_after: timedelta | None = None


CallOutcome: TypeAlias = CallDone | CallRefused | CallNotDone | CallUnknown
CallName: TypeAlias = Literal["done", "refused", "not_done", "unknown"]


class ExternalSystem(Protocol):
    """One external system. Failures are outcomes, never exceptions: each says what is known of the effect."""

    async def call(self, idempotency_key: str, request: Mapping[str, Any]) -> CallOutcome:
        """Ask for the work; the same key has one effect, however often it is called."""
        ...

    async def find(self, idempotency_key: str) -> CallDone | CallNotDone | CallUnknown:
        """Ask what was done under a key: done, certainly not done, or still unknown."""
        ...


@dataclass(frozen=True, slots=True)
class CallAdmitted:
    """A call may go out. `generation` names the guard's state that let it; `must_report` asks how it went."""

    generation: int
    must_report: bool


RefusalReason: TypeAlias = Literal["open", "probing", "rate", "held", "unproven"]


@dataclass(frozen=True, slots=True)
class CallHeldBack:
    """A call may not go out now.

    `open`: too many failed, and nobody tries. `probing`: one other call tries. `rate`: there are too many. `held`: the system
    asked for a pause. `unproven`: so many are out since one last succeeded that these must come back first.
    """

    reason: RefusalReason
    retry_after: timedelta


CallHealth: TypeAlias = Literal["succeeded", "failed", "neutral"]


class ExternalCallGuard(Protocol):
    """Circuit breaker and rate limit of one external system, the same for all processes."""

    async def admit(self) -> CallAdmitted | CallHeldBack:
        """Ask whether a call may go out, and count it when it may.

        Raises:
            StoreUnavailable: the database cannot be asked now.
        """
        ...

    async def settle(
        self, admitted: CallAdmitted, health: CallHealth, *, error: str | None, hold_for: timedelta | None
    ) -> str:
        """Say how an admitted call went; returns the breaker's state: closed, open or half_open.

        Args:
            admitted: what let the call out.
            health: `neutral` for an answered query, which proves little about the next call.
            error: what was seen when it failed.
            hold_for: a pause that the system asked for, of everybody.

        Raises:
            StoreUnavailable: the database cannot be asked now.
        """
        ...


class GuardObserver(Protocol):
    """Is told what the guards of external systems do: metrics, never decisions."""

    def held_back(self, system: str, reason: str) -> None:
        """A call was not let out."""
        ...

    def breaker(self, system: str, state: str) -> None:
        """The breaker's state after a call."""
        ...

    def guarded(self, seconds: float) -> None:
        """How long asking for admission took."""
        ...


class OrderObserver(Protocol):
    """Is told what became of orders and calls, after the commit: metrics, never decisions."""

    def reached(self, state: str) -> None:
        """An order reached a state."""
        ...


class CallObserver(Protocol):
    """Is told of calls to external systems: metrics, never decisions."""

    def call(self, system: str, outcome: CallName) -> None:
        """A call was answered, or was not."""
        ...


@dataclass(frozen=True, slots=True)
class WorkerRegistration:
    """A worker process that lives: what it serves, which versions of variables it understands, and its release."""

    instance_id: str
    worker_group: str
    job_types: Sequence[str]
    variables_schema_versions: Sequence[int]
    release_id: str
    started_at: datetime


class WorkerRegistrations(Protocol):
    """Live workers, for the release's check that every job type is served."""

    async def announce(self, registration: WorkerRegistration) -> None:
        """Write the registration, or its next heartbeat; a former one of the same instance is replaced.

        Raises:
            StoreUnavailable: the database cannot be asked now.
        """
        ...

    async def remove(self, registration: WorkerRegistration) -> None:
        """Take the registration away, unless the instance has been started anew since."""
        ...


class UnitOfWork(Protocol):
    """One transaction of one tenant. Leaving it without `commit` rolls everything back."""

    @property
    def tenant_id(self) -> TenantId:
        """The tenant whose rows this transaction sees."""
        ...

    @property
    def catalog(self) -> CatalogRepository: ...
    @property
    def quotes(self) -> QuoteRepository: ...
    @property
    def orders(self) -> OrderRepository: ...
    @property
    def idempotency(self) -> IdempotencyRepository: ...
    @property
    def audit(self) -> AuditTrail: ...
    @property
    def outbox(self) -> OutboxStore: ...
    @property
    def fulfillment(self) -> FulfillmentRepository: ...
    @property
    def workflow_references(self) -> WorkflowReferenceRepository: ...
    @property
    def process_routes(self) -> ProcessRouteRepository: ...

    async def commit(self) -> None:
        """Make everything of this transaction durable.

        Raises:
            StoreUnavailable: the outcome may be unknown; the idempotency record tells on a retry.
        """
        ...


class UnitOfWorkFactory(Protocol):
    """Opens a transaction for a tenant."""

    def __call__(self, tenant_id: TenantId) -> AbstractAsyncContextManager[UnitOfWork]:
        """Return a context manager over one transaction.

        Raises:
            StoreUnavailable: on entering, or from any repository, when the database cannot be asked.
        """
        ...


class DeclaredReads(Protocol):
    """Queries whose answer may be some time old: app/contracts/standby_reads.yml names them and says how old."""

    async def read(self, query: str, tenant_id: TenantId, ask: Callable[[UnitOfWork], Awaitable[T | None]]) -> T | None:
        """Ask in a transaction that cannot write, and return what was answered.

        Args:
            query: its name in the declaration.
            tenant_id: whose rows are seen.
            ask: may be called twice; None, that there is nothing, is only believed of the primary.

        Raises:
            StoreUnavailable: no server can be asked now.
            KeyError: the query is not declared.
        """
        ...
