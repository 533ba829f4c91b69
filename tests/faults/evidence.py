"""Gathers the evidence of a run into an oracle: database, topics, engine, ledger, cache, logs and the processes themselves.

Read with plain clients, as somebody outside would: the product's own readers are not asked.
"""

from __future__ import annotations

import contextlib
import json
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import redis
from kafka import KafkaConsumer, TopicPartition
from psycopg.rows import dict_row

from app.contracts.loader import load_consumer_groups, load_topics
from tests.faults.journal import Journal
from tests.faults.load import Tenant
from tests.faults.oracle import PLATFORM_TABLES, Oracle, moment, plain
from tests.faults.units import Units
from tests.support.released_host import ReleasedHost

ENGINE_TOPIC = "zeebe"
DEAD_LETTERS = ".dlq"
_POLL_MS = 500
_READ_SECONDS = 60.0

Offsets = Mapping[TopicPartition, int]


@dataclass
class Run:
    """What belongs to one run: its tenants, its journal, and where the topics ended when it began."""

    units: Units
    tenants: list[Tenant]
    journal: Journal
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    offsets: Offsets = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    log_starts: dict[str, int] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)

    @property
    def tenant_ids(self) -> list[str]:
        return [tenant.tenant_id for tenant in self.tenants]


def connect(host: ReleasedHost, role: str = "observer") -> psycopg.Connection[dict[str, Any]]:
    """Connect to the database as one of its roles, not through any unit."""
    return psycopg.connect(
        f"postgresql://cpq_{role}@{host.address}:5432/cpq",
        password=host.secret(f"db_{role}_password"),
        autocommit=True,
        row_factory=dict_row,
        connect_timeout=5,
    )


def kafka_client(host: ReleasedHost) -> KafkaConsumer:
    """A reader of every topic, in no group."""
    return KafkaConsumer(
        bootstrap_servers=[f"{host.address}:9092"],
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="SCRAM-SHA-256",
        sasl_plain_username="admin",
        sasl_plain_password=host.secret("kafka_admin_password"),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        client_id="faults-oracle",
    )


def topic_ends(host: ReleasedHost) -> Offsets:
    """Where every partition of every topic ends now."""
    client = kafka_client(host)
    try:
        known = [
            TopicPartition(topic, number)
            for topic in client.topics()
            if not topic.startswith("__")
            for number in client.partitions_for_topic(topic) or ()
        ]
        return dict(client.end_offsets(known))
    finally:
        client.close()


def subscriptions() -> list[dict[str, str]]:
    """Which group reads which topic, as declared."""
    return [
        {"consumer_group": group, "topic": topic.name}
        for topic in load_topics().values()
        for group in topic.consumer_groups
    ]


def reaction_rules() -> list[dict[str, str]]:
    """Which events make which group react, as declared."""
    return [
        {"consumer_group": group, "event_type": event_type}
        for group, declared in load_consumer_groups().items()
        if declared.reaction is not None
        for event_type in declared.reaction.event_types
    ]


def gather(run: Run, oracle: Oracle) -> Oracle:
    """Fill the oracle with everything there is to know when all is at rest.

    The ledger comes before the database and the database before the topics: what one of them holds, the next has too.
    """
    gather_running(run, oracle)
    _topics(run, oracle)
    _redis(run, oracle)
    _logs(run, oracle)
    _processes(run, oracle)
    _host_journal(run, oracle)
    return oracle


def gather_running(run: Run, oracle: Oracle) -> Oracle:
    """Fill the oracle with what can be read consistently while everything moves."""
    oracle.add("tenant", [{"tenant_id": tenant.tenant_id, "canary": tenant.canary} for tenant in run.tenants])
    oracle.add("subscription", subscriptions())
    oracle.add("reaction_rule", reaction_rules())
    _journal(run, oracle)
    _ledger(run, oracle)
    _database(run, oracle)
    return oracle


def ledger(host: ReleasedHost) -> dict[str, Any]:
    """What the external systems did and were asked, all of it."""
    with urllib.request.urlopen(f"http://{host.address}:8090/control/ledger", timeout=30) as response:
        document: dict[str, Any] = json.load(response)
    return document


def _journal(run: Run, oracle: Oracle) -> None:
    rows = run.journal.rows()
    oracle.add("journal", rows)
    oracle.add(
        "text",
        [
            {"place": "response", "item": row["request_id"], "tenant_id": row["tenant_id"], "content": row["body"]}
            for row in rows
            if row["body"]
        ],
    )


def _ledger(run: Run, oracle: Oracle) -> None:
    document = ledger(run.units.host)
    own = set(run.tenant_ids)
    oracle.add(
        "effect",
        [
            {
                "system": effect["system"],
                "idempotency_key": effect["idempotencyKey"],
                "reference": effect["id"],
                "order_id": effect["orderId"],
                "tenant_id": effect["tenantId"],
                "request": json.dumps(effect["request"]),
                "performed_at": moment(effect["performedAt"]),
            }
            for effect in document["effects"]
            if effect["tenantId"] in own
        ],
    )
    oracle.add(
        "provider_request",
        [
            {
                "request_no": number,
                "system": request["system"],
                "method": request["method"],
                "idempotency_key": request["idempotencyKey"],
                "mode": request["mode"],
                "tenant_id": tenant,
                "arrived_at": moment(request["arrivedAt"]),
            }
            for number, request in enumerate(document["requests"])
            for tenant in own
            if f":{tenant}:" in request["idempotencyKey"]
        ],
    )


def _database(run: Run, oracle: Oracle) -> None:
    """Copy the tenants' rows as one snapshot."""
    with connect(run.units.host) as connection:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        for table, columns in PLATFORM_TABLES.items():
            rows = connection.execute(
                f"SELECT {', '.join(columns)} FROM cpq.{table} WHERE tenant_id = ANY(%s)",
                (run.tenant_ids,),
            )
            oracle.add(table, [_flat(row) for row in rows])
        for table in _tenant_tables(connection):
            texts = connection.execute(f"SELECT * FROM cpq.{table} WHERE tenant_id = ANY(%s)", (run.tenant_ids,))
            oracle.add(
                "text",
                [
                    {"place": table, "item": number, "tenant_id": row["tenant_id"], "content": _content(row)}
                    for number, row in enumerate(texts)
                ],
            )


def _tenant_tables(connection: psycopg.Connection[dict[str, Any]]) -> list[str]:
    rows = connection.execute(
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "JOIN pg_attribute a ON a.attrelid = c.oid WHERE n.nspname = 'cpq' AND c.relkind IN ('r', 'p') "
        "AND a.attname = 'tenant_id' AND NOT a.attisdropped"
    )
    return sorted(row["relname"] for row in rows)


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: json.dumps(value, sort_keys=True) if isinstance(value, dict | list) else plain(value)
        for name, value in row.items()
    }


def _content(row: Mapping[str, Any]) -> str:
    """Everything readable in a row but the name of its owner."""
    return " ".join(
        value.decode(errors="replace") if isinstance(value, bytes) else str(value)
        for name, value in row.items()
        if name != "tenant_id"
    )


def records(host: ReleasedHost, starts: Offsets, topics: Sequence[str] | None = None) -> Iterator[Any]:
    """Give every record since `starts`, partition by partition in offset order; of partitions made later, all.

    Raises:
        TimeoutError: a topic could not be read to its end.
    """
    client = kafka_client(host)
    try:
        chosen = [topic for topic in client.topics() if not topic.startswith("__")] if topics is None else topics
        known = [
            TopicPartition(topic, number) for topic in chosen for number in client.partitions_for_topic(topic) or ()
        ]
        if not known:
            return
        client.assign(known)
        ends = client.end_offsets(known)
        for partition in known:
            client.seek(partition, starts.get(partition, 0))
        limit = time.monotonic() + _READ_SECONDS
        while any(client.position(partition) < ends[partition] for partition in known):
            if time.monotonic() > limit:
                raise TimeoutError("the topics could not be read to their ends")
            for batch in client.poll(timeout_ms=_POLL_MS, max_records=2000).values():
                yield from batch
    finally:
        client.close()


def _topics(run: Run, oracle: Oracle) -> None:
    """Copy the topics as they were written, and follow what the engine wrote to its own."""
    own = set(run.tenant_ids)
    # What a test wrote in somebody's name was served by nobody.
    forged = {row["item"] for row in oracle.rows("SELECT item FROM expected WHERE name = 'forged'")}
    rows: list[dict[str, Any]] = []
    texts: list[dict[str, Any]] = []
    engine: list[dict[str, Any]] = []
    engine_text: list[str] = []
    for record in records(run.units.host, run.offsets):
        value = (record.value or b"").decode(errors="replace")
        if record.topic == ENGINE_TOPIC:
            engine.append(json.loads(value))
            engine_text.append(value)
            continue
        headers = {name: content.decode(errors="replace") for name, content in record.headers}
        tenant = headers.get("ce_tenantid")
        is_dead = record.topic.endswith(DEAD_LETTERS)
        if tenant not in own and not is_dead:  # a dead letter may be of an event that could not be attributed
            continue
        item = f"{record.topic}[{record.partition}]@{record.offset}"
        rows.append(
            {
                "topic": record.topic,
                "kafka_partition": record.partition,
                "kafka_offset": record.offset,
                "event_id": json.loads(value)["eventId"] if is_dead else headers.get("ce_id"),
                "tenant_id": tenant,
                "aggregate_id": (record.key or b"").decode(errors="replace"),
                "aggregate_seq": _number(headers.get("ce_sequence")),
                "payload": value,
                "is_dead_letter": int(is_dead),
                "written_at": plain(datetime.fromtimestamp(record.timestamp / 1000, UTC)),
            }
        )
        if rows[-1]["event_id"] in forged:
            continue
        headers.pop("ce_tenantid", None)
        texts.append({"place": "topic", "item": item, "tenant_id": tenant, "content": f"{value} {headers}"})
    oracle.add("topic_record", rows)
    oracle.add("text", texts)
    oracle.add("engine_instance", engine_instances(engine, own))
    _search(run, oracle, "topics", "".join(row["payload"] for row in rows))
    _search(run, oracle, "engine records", "".join(engine_text))


def engine_instances(exported: Sequence[Mapping[str, Any]], tenants: set[str]) -> list[dict[str, Any]]:
    """Follow the engine's own records: each instance with its order, its tenant and whether it lives."""
    states: dict[int, str] = {}
    started: dict[int, dict[str, Any]] = {}
    ends = {"ELEMENT_ACTIVATED": "active", "ELEMENT_COMPLETED": "completed", "ELEMENT_TERMINATED": "terminated"}
    for record in exported:
        value = record.get("value", {})
        if record.get("valueType") == "PROCESS_INSTANCE" and value.get("bpmnElementType") == "PROCESS":
            if record["intent"] in ends:
                states[value["processInstanceKey"]] = ends[record["intent"]]
        elif record.get("valueType") == "MESSAGE_START_EVENT_SUBSCRIPTION" and record["intent"] == "CORRELATED":
            started[value["processInstanceKey"]] = value["variables"]
    return [
        {
            "process_instance_key": key,
            "order_id": variables["orderId"],
            "tenant_id": variables["tenantId"],
            "state": states.get(key, "active"),
        }
        for key, variables in started.items()
        if variables.get("tenantId") in tenants
    ]


def _redis(run: Run, oracle: Oracle) -> None:
    host = run.units.host
    client = redis.Redis(
        host=host.address, username="admin", password=host.secret("redis_admin_password"), protocol=2, socket_timeout=5
    )
    with contextlib.closing(client):
        for tenant in run.tenants:
            for key in client.scan_iter(match=f"*:{tenant.tenant_id}:*", count=1000):
                value = client.get(key) if client.type(key) == b"string" else None
                if not isinstance(value, bytes):
                    continue
                name, text = key.decode(), value.decode(errors="replace")
                oracle.add("text", [{"place": "redis", "item": name, "tenant_id": tenant.tenant_id, "content": text}])
                if ":offering:" in name:
                    oracle.add("redis_entry", _cached_prices(name, json.loads(text)))


def _cached_prices(key: str, document: Mapping[str, Any]) -> list[dict[str, Any]]:
    offering = document["offering"]
    return [
        {
            "redis_key": key,
            "tenant_id": key.split(":")[1],
            "catalog_version": document["catalog_version"],
            "offering_id": offering["offering_id"],
            "price_type": price["price_type"],
            "currency": price["currency"],
            "unit_amount": str(price["unit_amount"]),
        }
        for price in offering["prices"]
    ]


def _logs(run: Run, oracle: Oracle) -> None:
    """What the units wrote since the run began; lines that name a tenant are read as written for it."""
    written = {unit.name: unit.log[run.log_starts.get(unit.name, 0) :] for unit in run.units} | run.logs
    texts = []
    for name, log in written.items():
        oracle.add("crash", [{"unit": name, "line": line} for line in _crashes(log)])
        for number, line in enumerate(log.splitlines()):
            with contextlib.suppress(ValueError):
                document = json.loads(line)
                tenant = document.get("tenant") or document.get("tenant_id")
                if tenant in run.tenant_ids:
                    texts.append({"place": f"log of {name}", "item": number, "tenant_id": tenant, "content": line})
    oracle.add("text", texts)
    # From their first line on: what a unit says when it starts is said before the run begins.
    for name, log in ({unit.name: unit.log for unit in run.units} | run.logs).items():
        _search(run, oracle, f"log of {name}", log)


def _crashes(log: str) -> list[str]:
    """The last line of each traceback that is no part of a log entry: nobody caught that error."""
    lines = log.splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")]
    return [
        next((line for line in lines[start + 1 :] if line.strip() and not line.startswith(" ")), lines[start])
        for start in starts
    ]


def _processes(run: Run, oracle: Oracle) -> None:
    """What anybody who may list processes can see of ours."""
    for unit in run.units:
        seen = []
        for pid in unit.pids:
            for name in ("environ", "cmdline"):
                with contextlib.suppress(OSError):
                    seen.append(Path(f"/proc/{pid}/{name}").read_text(errors="replace"))
        _search(run, oracle, f"process of {unit.name}", "".join(seen))


def _host_journal(run: Run, oracle: Oracle) -> None:
    """What the host's services wrote meanwhile."""
    since = run.began.strftime("%Y-%m-%d %H:%M:%S UTC")
    written = run.units.host.run(f"journalctl -q --no-pager --since '{since}'").stdout
    if written:  # a host at rest may have had nothing to say
        _search(run, oracle, "journal of the host", written)


def secrets(run: Run) -> dict[str, str]:
    """Every credential of the platform's units and the tokens of the run's clients, by a name that may be shown."""
    found = {
        f"{definition.unit}/{name}": secret
        for definition in run.units.definitions.values()
        for name, secret in definition.credentials.items()
    }
    return found | {f"token of {tenant}": token for tenant, token in run.tokens.items()}


def _search(run: Run, oracle: Oracle, place: str, content: str) -> None:
    oracle.add("secret_search", [{"place": place, "characters": len(content)}])
    oracle.add("secret_hit", [{"secret": n, "place": place} for n, secret in secrets(run).items() if secret in content])


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None
