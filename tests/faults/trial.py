"""One trial: customers order, a fault strikes and is over, everything comes to rest, and the invariants are judged."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from app.adapters.postgres.catalog_seed import seed as seed_catalog
from app.contracts.loader import load_topics
from tests.faults import evidence
from tests.faults.evidence import Run, connect
from tests.faults.invariants import violations, violations_while_running
from tests.faults.journal import Journal
from tests.faults.load import PRINCIPAL, SCOPES, Load, Tenant
from tests.faults.oracle import Oracle
from tests.faults.units import Units

TENANTS = 3
MOST_ORDERS = 150
_LOAD_SECONDS = 120.0
_WATCH_SECONDS = 3.0
_SETTLE_SECONDS = 1.5

# What each measure may be at most: several times what a sound run was seen to need, far below what would hurt a host.
CAPS: Mapping[str, float] = {
    "rss_mb": 500,
    "open_files": 400,
    "database_connections": 80,
    "outbox_backlog": 1000,
    "attempts_of_a_step": 12,
    "wal_mb": 1200,
}

Fault = Callable[["Trial"], None]


@dataclass
class Outcome:
    """What came of a trial.

    Attributes:
        violations: lines by invariant; empty lists where one holds.
        trouble: why the trial itself proves nothing, such as a fault that never struck; None when it went as planned.
    """

    scenario: str
    seed: int
    seconds: float = 0.0
    orders: int = 0
    violations: dict[str, list[str]] = field(default_factory=dict)
    trouble: str | None = None

    @property
    def violated(self) -> list[str]:
        """Codes of the invariants that do not hold."""
        return [code for code, lines in self.violations.items() if lines]

    @property
    def is_sound(self) -> bool:
        return self.trouble is None and not self.violated


class FaultDidNotStrikeError(Exception):
    """The moment that a fault was to hit never came, so the trial proves nothing."""


class Trial:
    """One trial on running units.

    Args:
        units: the platform.
        name: the scenario's.
        seed: decides tenants, orders and the fault's moments.
        folder: where journal and oracle are kept.
        budget: seconds within which everything must come to rest after the fault.
        pace: orders begun per second.
    """

    def __init__(self, units: Units, name: str, *, seed: int, folder: Path, budget: float, pace: float) -> None:
        self.units = units
        self.name = name
        self.seed = seed
        self.budget = budget
        self.chance = random.Random(f"{name} {seed}")
        self._pace = pace
        # Names are new at every run, also of the same seed: the services keep what earlier runs did.
        mark = f"{time.time_ns() // 1_000_000:x}"[-9:]
        tenants = [
            Tenant(f"f-{mark}-{letter}", f"canary{mark}{letter}", number)
            for number, letter in enumerate("abcdefgh"[:TENANTS], start=1)
        ]
        self.folder = folder
        self.run = Run(units, tenants, Journal(folder / f"{name}-{mark}.journal.sqlite3"))
        self.oracle_path = folder / f"{name}-{mark}.oracle.sqlite3"
        self.expected: list[dict[str, str]] = []
        self.announced: str | None = None
        self.cleanups = contextlib.ExitStack()
        self.load: Load
        self._samples: list[dict[str, Any]] = []
        self._early: dict[str, list[str]] = {}

    def go(self, faults: Sequence[Fault]) -> Outcome:
        """Run the trial; never raises for what the platform did."""
        outcome = Outcome(self.name, self.seed)
        began = time.monotonic()
        oracle: Oracle | None = None
        try:
            with self.cleanups:
                self._prepare()
                self.load.start()
                for fault in faults:
                    fault(self)
                    self.watch()
            time.sleep(_SETTLE_SECONDS)
            healed = datetime.now(UTC)
            accepted = self.load.accepted
            self._order_once_more(accepted)
            self.oracle_path.unlink(missing_ok=True)
            oracle = Oracle(self.oracle_path)
            oracle.add("heal", [{"healed_at": healed}])
            self._come_to_rest(oracle)
            self._fill(oracle)
            outcome.violations = violations(oracle)
        except (FaultDidNotStrikeError, AssertionError, TimeoutError) as error:
            outcome.trouble = f"{type(error).__name__}: {error}"
        finally:
            if oracle is not None:
                oracle.close()
            if hasattr(self, "load"):
                self.load.finish(_LOAD_SECONDS)  # the journal must outlive whoever writes into it
            self._revive()
        for code, lines in self._early.items():
            outcome.violations.setdefault(code, []).extend(lines)
        outcome.orders = self.load.accepted if hasattr(self, "load") else 0
        outcome.seconds = time.monotonic() - began
        if not outcome.orders and outcome.trouble is None:
            outcome.violations.setdefault("I13", []).append(
                f"not one order was accepted; given up: {self.load.given_up[:5]}"
            )
        return outcome

    def watch(self) -> None:
        """Measure, and check what must hold in the middle of a fault too, where the database answers."""
        self._sample()
        oracle = Oracle()
        try:
            evidence.gather_running(self.run, oracle)
        except (psycopg.OperationalError, OSError):
            return  # what cannot be asked now is asked at the end
        finally_found = violations_while_running(oracle)
        oracle.close()
        for code, lines in finally_found.items():
            new = [f"while running: {line}" for line in lines]
            self._early.setdefault(code, []).extend(line for line in new if line not in self._early.get(code, []))

    def _prepare(self) -> None:
        self.run.offsets = evidence.topic_ends(self.units.host)
        self.run.log_starts = {unit.name: len(unit.log) for unit in self.units}
        asyncio.run(self._publish_catalogs())
        for tenant in self.run.tenants:
            self.run.tokens[tenant.tenant_id] = self._token(tenant.tenant_id)
        api = self.units["api"]
        self.load = Load(
            lambda: f"http://127.0.0.1:{api.http_port}",
            self.run.tokens,
            self.run.tenants,
            self.run.journal,
            orders=MOST_ORDERS,
            pace=self._pace,
            seed=self.seed,
        )

    async def _publish_catalogs(self) -> None:
        connection = await psycopg.AsyncConnection.connect(
            f"postgresql://cpq_admin@{self.units.host.address}:5432/cpq",
            password=self.units.host.secret("db_admin_password"),
            autocommit=True,
            row_factory=dict_row,
        )
        async with connection:
            await seed_catalog(connection, [tenant.catalog() for tenant in self.run.tenants], PRINCIPAL)

    def _token(self, tenant_id: str) -> str:
        form = {
            "grant_type": "client_credentials",
            "client_id": PRINCIPAL,
            "client_secret": self.units.host.secret("issuer_client_secret"),
            "tenant": tenant_id,
            "scope": SCOPES,
        }
        url = f"http://{self.units.host.address}:8090/issuer/token"
        with urllib.request.urlopen(url, urllib.parse.urlencode(form).encode(), timeout=10) as response:
            return str(json.load(response)["access_token"])

    def _order_once_more(self, accepted: int) -> None:
        """After the fault every tenant still gets an order through."""
        self.load.wait_accepted(accepted + TENANTS, 60)
        if not self.load.finish(_LOAD_SECONDS):
            raise TimeoutError("customers are still waiting for answers")
        self.watch()

    def _come_to_rest(self, oracle: Oracle) -> None:
        """Wait, condition by condition, until nothing moves any more; note how long each took."""
        began = time.monotonic()
        for condition, ask in self._conditions():
            detail: str | None = "never asked"
            while detail is not None and time.monotonic() - began < self.budget:
                try:
                    detail = ask()
                except (psycopg.OperationalError, OSError) as error:
                    detail = f"{type(error).__name__}: {error}"
                if detail is not None:
                    self._revive()
                    self._sample()
                    time.sleep(0.5)
            oracle.add(
                "convergence",
                [
                    {
                        "condition": condition,
                        "detail": detail,
                        "seconds": None if detail is not None else round(time.monotonic() - began, 1),
                        "budget": self.budget,
                    }
                ],
            )

    def _conditions(self) -> Iterator[tuple[str, Callable[[], str | None]]]:
        yield (
            "every process started",
            lambda: self._none(
                "SELECT order_id FROM cpq.workflow_reference WHERE state = 'pending' AND tenant_id = ANY(%(tenants)s) "
                "AND order_id::text <> ALL(%(open)s)"
            ),
        )
        yield (
            "every order ended or waits for a person",
            lambda: self._none(
                "SELECT o.order_id FROM cpq.product_order o WHERE o.tenant_id = ANY(%(tenants)s) AND o.state NOT IN "
                "('completed', 'failed', 'cancelled', 'rejected', 'partial') AND o.order_id::text <> ALL(%(open)s) AND NOT "
                "EXISTS (SELECT 1 FROM cpq.fallout_case f WHERE f.order_id = o.order_id AND f.state = 'open')"
            ),
        )
        yield (
            "outbox empty",
            lambda: self._none(
                "SELECT event_id FROM cpq.outbox_event WHERE state <> 'published' AND tenant_id = ANY(%(tenants)s) "
                "AND event_id::text <> ALL(%(unpublished)s)"
            ),
        )
        for topic in load_topics().values():
            for group in topic.consumer_groups:
                yield (
                    f"{group} has read {topic.name}",
                    lambda topic=topic.name, group=group: self._none(  # type: ignore[misc]
                        "SELECT e.event_id FROM cpq.outbox_event e LEFT JOIN cpq.inbox_event i ON i.event_id = e.event_id "
                        "AND i.consumer_group = %(group)s WHERE e.topic = %(topic)s AND e.tenant_id = ANY(%(tenants)s) "
                        "AND e.state = 'published' AND i.event_id IS NULL AND e.event_id::text <> ALL(%(dead)s)",
                        group=group,
                        topic=topic,
                    ),
                )
        yield (
            "every reaction carried out",
            lambda: self._none(
                "SELECT reaction_id FROM cpq.reaction WHERE state = 'pending' AND tenant_id = ANY(%(tenants)s)"
            ),
        )
        yield "every instance ended or waits for a person", self._live_instances

    def _none(self, query: str, **values: Any) -> str | None:
        """Say which rows there still are, None when there are none."""
        known = {
            "tenants": self.run.tenant_ids,
            "open": self._expected("order-open"),
            "unpublished": self._expected("unpublished"),
            "dead": [*self._expected("dead-letter"), *self._expected("unpublished")],
        }
        with connect(self.units.host) as connection:
            rows = connection.execute(f"{query} LIMIT 5", known | values).fetchall()
        return " ".join(str(value) for row in rows for value in row.values()) or None

    def _live_instances(self) -> str | None:
        exported = [
            json.loads(record.value)
            for record in evidence.records(self.units.host, self.run.offsets, [evidence.ENGINE_TOPIC])
        ]
        live = {
            instance["order_id"]
            for instance in evidence.engine_instances(exported, set(self.run.tenant_ids))
            if instance["state"] == "active"
        }
        with connect(self.units.host) as connection:
            rows = connection.execute(
                "SELECT order_id::text FROM cpq.fallout_case WHERE state = 'open' AND tenant_id = ANY(%s)",
                (self.run.tenant_ids,),
            ).fetchall()
        left = live - {row["order_id"] for row in rows} - set(self._expected("order-open"))
        return " ".join(sorted(left)[:5]) or None

    def _expected(self, name: str) -> list[str]:
        return [row["item"] for row in self.expected if row["name"] == name]

    def _fill(self, oracle: Oracle) -> None:
        if self.announced == "fallout":
            self._announce_fallout()
        self._sample()
        wal = self.units.host.run("du -sm /var/lib/postgresql/*/*/pg_wal | cut -f1", check=False).stdout.split()
        if wal:
            self._samples.append({"subject": "postgresql", "measure": "wal_mb", "value": float(wal[0])})
        oracle.add("expected", self.expected)
        evidence.gather(self.run, oracle)
        counted = oracle.rows(
            "SELECT step, max(n) AS n FROM (SELECT step, order_id, count(*) AS n FROM external_call_attempt GROUP BY step, order_id) GROUP BY step"
        )
        self._samples += [
            {"subject": row["step"], "measure": "attempts_of_a_step", "value": row["n"]} for row in counted
        ]
        oracle.add("sample", self._samples)
        oracle.add("cap", [{"measure": measure, "maximum": maximum} for measure, maximum in CAPS.items()])

    def _announce_fallout(self) -> None:
        """Note the one order that has to fall out; none or several of them is a violation."""
        with connect(self.units.host) as connection:
            rows = connection.execute(
                "SELECT DISTINCT order_id::text FROM cpq.fallout_case WHERE state = 'open' AND tenant_id = ANY(%s)",
                (self.run.tenant_ids,),
            ).fetchall()
        if len(rows) == 1:
            self.expected.append({"name": "fallout", "item": rows[0]["order_id"]})
        else:
            self._early.setdefault("I9", []).append(f"{len(rows)} orders fell out where exactly one had to")

    def close(self, *, keep: bool) -> None:
        """Close journal and oracle; keep their files as evidence or remove them."""
        self.run.journal.close()
        if not keep:
            for path in self.folder.glob(f"{self.oracle_path.name.partition('.')[0]}.*"):
                path.unlink()

    def _sample(self) -> None:
        for unit in self.units:
            resident = files = 0.0
            for pid in unit.pids:
                with contextlib.suppress(OSError, IndexError, ValueError):
                    status = Path(f"/proc/{pid}/status").read_text()
                    resident += int(status.partition("VmRSS:")[2].split()[0]) / 1024
                    files += len(list(Path(f"/proc/{pid}/fd").iterdir()))
            self._samples.append({"subject": unit.name, "measure": "rss_mb", "value": resident})
            self._samples.append({"subject": unit.name, "measure": "open_files", "value": files})
        with contextlib.suppress(psycopg.OperationalError), connect(self.units.host) as connection:
            row = connection.execute(
                "SELECT (SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'cpq_%%') AS connections, "
                "(SELECT count(*) FROM cpq.outbox_event WHERE state <> 'published' AND tenant_id = ANY(%s)) AS backlog",
                (self.run.tenant_ids,),
            ).fetchone()
            assert row is not None
            self._samples.append(
                {"subject": "postgresql", "measure": "database_connections", "value": row["connections"]}
            )
            self._samples.append({"subject": "outbox", "measure": "outbox_backlog", "value": row["backlog"]})

    def _revive(self) -> None:
        """Start again what ended by itself, as the service manager does."""
        for unit in self.units:
            if unit.is_frozen:
                unit.thaw()
            if not unit.pids:
                with contextlib.suppress(AssertionError):
                    unit.restart()
