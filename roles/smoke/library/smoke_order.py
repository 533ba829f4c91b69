#!/usr/bin/python
"""Ansible module: takes one order through the real stack and believes nobody's word for it but the stores' own.

Needs httpx, psycopg and kafka-python: it runs with the Python of the installed admin release. Every step is done over
HTTP like any client's, and then seen from outside: in PostgreSQL as the observer, in Kafka by a consumer of its own, in
the records the workflow engine exported, in the external systems' ledger. Waiting has a deadline per step.
"""

from __future__ import annotations

import json
import ssl
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ansible.module_utils.basic import AnsibleModule

try:
    import httpx
    import psycopg
    from kafka import KafkaConsumer, TopicPartition
    from kafka.errors import KafkaError
    from psycopg.rows import dict_row

    MISSING = None
except ImportError:
    MISSING = traceback.format_exc()

DOCUMENTATION = r"""
module: smoke_order
short_description: Take an order from quote to completed and see each step from outside
options:
  mode:
    description: V(order) makes and fulfils an order; V(read) only reads what is there.
    type: str
    choices: [order, read]
    required: true
  api_url: {description: Address of the API., type: str, required: true}
  ca_file: {description: Certificates that are trusted besides those of the system; empty for none., type: str, required: true}
  token_url: {description: Address of the token endpoint., type: str, required: true}
  client_id: {description: Client at the issuer., type: str, required: true}
  client_secret: {description: Its secret., type: str, required: true}
  tenant: {description: Tenant that the order is made for., type: str, required: true}
  database_url: {description: URL of the database with the observer's name., type: str, required: true}
  database_password: {description: The observer's password., type: str, required: true}
  kafka_servers: {description: Bootstrap servers., type: list, elements: str, required: true}
  kafka_password: {description: The observer's password., type: str, required: true}
  kafka_ca_file: {description: Certificates that the brokers' own must come from; empty without TLS., type: str, default: ""}
  ledger_url: {description: Ledger of the external systems; empty where there is none., type: str, required: true}
  migrations: {description: Names of the migrations that must be applied., type: list, elements: str, required: true}
  timeout: {description: Seconds that a step may take., type: float, required: true}
"""

RETURN = r"""
steps: {description: Each step with verdict, ids and time., returned: always, type: list}
at_fault: {description: Units whose journals tell why a step failed., returned: on failure, type: list}
"""

SCOPES = "quote:read quote:write order:read order:write catalog:read"
ORDER_TOPIC = "oms.order.events.v1"
ENGINE_TOPIC = "zeebe"
CONSUMER_GROUP = "order-projection"
PROCESS = "PROCESS"
QUANTITY = 12
PAUSE_SECONDS = 0.1
CREATED = 201


class StepFailedError(Exception):
    """A step was not seen to happen; the message says what was expected and what was there."""


@dataclass
class Smoke:
    """One run: what was made so far, and the connections it is observed by."""

    options: dict[str, Any]
    http: Any
    database: Any
    found: dict[str, Any] = field(default_factory=dict)

    # --- what every run does -------------------------------------------------------------------------------------

    def migrations(self) -> str:
        """The schema has every migration of the bundle, by the database's own ledger."""
        applied = {row["migration"] for row in self.rows("SELECT migration FROM cpq.migration_ledger")}
        missing = [name for name in self.options["migrations"] if name not in applied]
        if missing:
            raise StepFailedError(f"not applied: {', '.join(missing)}")
        return f"{len(self.options['migrations'])} applied, newest {max(applied)}"

    def catalog(self) -> str:
        """The tenant has a published catalog, in the database and over HTTP alike."""
        row = self.row(
            "SELECT v.catalog_version, count(o.offering_id) AS offerings FROM cpq.catalog_version AS v "
            "JOIN cpq.product_offering AS o USING (tenant_id, catalog_version) "
            "WHERE v.tenant_id = %s AND v.lifecycle_status = 'active' AND o.is_sellable GROUP BY v.catalog_version",
            self.options["tenant"],
        )
        if row is None:
            raise StepFailedError(f"tenant {self.options['tenant']} has no active catalog version")
        document = self.call("GET", "/v1/catalog/offerings")
        offerings = document["offerings"]
        if document["catalogVersion"] != row["catalog_version"] or len(offerings) != row["offerings"]:
            raise StepFailedError(
                f"database: version {row['catalog_version']}, {row['offerings']} offerings; API: version "
                f"{document['catalogVersion']}, {len(offerings)}"
            )
        self.found["offering"] = offerings[0]
        return f"version {row['catalog_version']}, {row['offerings']} offerings of {self.options['tenant']}"

    # --- the order -----------------------------------------------------------------------------------------------

    def create_quote(self) -> str:
        """POST a quote; the row is there."""
        body = {
            "customerId": "smoke-customer",
            "currency": self.row(
                "SELECT default_currency FROM cpq.tenant WHERE tenant_id = %s", self.options["tenant"]
            )["default_currency"],
            "items": [{"offeringId": self.found["offering"]["id"], "quantity": QUANTITY}],
        }
        quote = self.call("POST", "/v1/quotes", body, key=str(uuid.uuid4()), expected=CREATED)
        row = self.row("SELECT state, tenant_id FROM cpq.quote WHERE quote_id = %s", quote["id"])
        if row is None or row["tenant_id"] != self.options["tenant"]:
            raise StepFailedError(f"quote {quote['id']} is not in the database under its tenant: {row}")
        self.found["quote"] = quote
        return f"quote {quote['id']}"

    def price_quote(self) -> str:
        """Price it; the waterfall's last amounts are the totals, to the digit."""
        quote = self.call("POST", f"/v1/quotes/{self.found['quote']['id']}/price", {})
        row = self.row(
            "SELECT q.total_one_time, q.total_recurring, count(s.*) AS steps FROM cpq.quote AS q "
            "LEFT JOIN cpq.quote_price_step AS s USING (quote_id) WHERE q.quote_id = %s GROUP BY q.quote_id",
            quote["id"],
        )
        stored = (str(row["total_one_time"]), str(row["total_recurring"]))
        answered = (quote["totalOneTime"], quote["totalRecurring"])
        if stored != answered or row["steps"] == 0:
            raise StepFailedError(f"answered {answered}, stored {stored} with {row['steps']} steps of reasons")
        self.found["quote"] = quote
        return f"{quote['totalOneTime']} once, {quote['totalRecurring']} recurring {quote['currency']}, {row['steps']} steps"

    def convert_quote(self) -> str:
        """Accept and convert; order, reference, audit and outbox rows come from one transaction."""
        path = f"/v1/quotes/{self.found['quote']['id']}"
        self.call("POST", f"{path}/accept", {}, version=self.found["quote"]["version"])
        order = self.call("POST", f"{path}/convert", {}, key=str(uuid.uuid4()), expected=CREATED)
        row = self.row(
            "SELECT o.tenant_id, (SELECT count(*) FROM cpq.outbox_event AS e WHERE e.aggregate_id = o.order_id "
            "AND e.aggregate_seq = 1) AS events, (SELECT count(*) FROM cpq.audit_entry AS a WHERE a.target_id = "
            "o.order_id::text) AS audits, r.message_id, (SELECT t.xmin::text FROM cpq.order_transition AS t WHERE "
            "t.order_id = o.order_id AND t.aggregate_seq = 1) AS order_transaction, (SELECT a.xmin::text FROM "
            "cpq.audit_entry AS a WHERE a.target_id = o.order_id::text ORDER BY a.occurred_at LIMIT 1) AS audit_transaction "
            "FROM cpq.product_order AS o LEFT JOIN cpq.workflow_reference AS r USING (order_id) WHERE o.order_id = %s",
            order["id"],
        )
        if row is None or not row["events"] or not row["audits"] or not row["message_id"]:
            raise StepFailedError(f"order {order['id']} lacks its event, audit or workflow reference: {row}")
        if row["order_transaction"] != row["audit_transaction"]:
            raise StepFailedError(f"order and audit are from different transactions: {row}")
        self.found["order"] = order
        return f"order {order['id']}"

    def start_workflow(self) -> str:
        """The engine exported exactly one process instance for the order."""

        def started() -> int | None:
            row = self.row(
                "SELECT process_instance_key AS key FROM cpq.workflow_reference WHERE order_id = %s AND "
                "process_instance_key IS NOT NULL", self.found["order"]["id"]
            )  # fmt: skip
            return row["key"] if row else None

        key = self.wait("the workflow reference has a process instance", started)
        records = self.wait(
            f"the engine exported process instance {key}",
            lambda: [
                record
                for record in self.engine_records()
                if record["valueType"] == "PROCESS_INSTANCE"
                and record["intent"] == "ELEMENT_ACTIVATED"
                and record["value"]["bpmnElementType"] == PROCESS
                and record["value"]["processInstanceKey"] == key
            ],
        )
        if len(records) != 1:
            raise StepFailedError(f"{len(records)} activations of process instance {key}")
        self.found["instance"] = key
        value = records[0]["value"]
        return f"instance {key} of {value['bpmnProcessId']} version {value['version']}"

    def execute_worker(self) -> str:
        """The engine saw the jobs completed, and the external systems did each step once."""

        def completed() -> list[str]:
            jobs = [
                record["value"]["type"]
                for record in self.engine_records()
                if record["valueType"] == "JOB"
                and record["intent"] == "COMPLETED"
                and record["value"]["processInstanceKey"] == self.found["instance"]
            ]
            tasks = self.rows("SELECT step FROM cpq.fulfillment_task WHERE order_id = %s", self.found["order"]["id"])
            return jobs if tasks and {row["step"] for row in tasks} <= set(jobs) else []

        jobs = self.wait("the engine exported every job as completed", completed)
        effects = self.effects()
        return f"{len(jobs)} jobs completed" + (f", {len(effects)} effects: {', '.join(effects)}" if effects else "")

    def publish_and_consume(self) -> str:
        """A consumer of our own reads the order's last event; the projection's inbox has it."""
        order_id = self.found["order"]["id"]

        def event() -> Any:
            return self.row(
                "SELECT event_id::text AS event_id, kafka_partition AS partition, kafka_offset AS at, payload "
                "FROM cpq.outbox_event WHERE aggregate_id = %s AND event_type = 'OrderCompleted' AND state = 'published'",
                order_id,
            )

        sent = self.wait("the relay published OrderCompleted", event)
        record = self.record_at(ORDER_TOPIC, sent["partition"], sent["at"])
        headers = {name: value.decode() for name, value in record.headers}
        if headers.get("ce_id") != sent["event_id"] or record.value.decode() != sent["payload"]:
            raise StepFailedError(f"{ORDER_TOPIC}/{sent['partition']}@{sent['at']} holds {headers.get('ce_id')}")
        self.wait(
            f"{CONSUMER_GROUP} recorded the event and its projection says completed",
            lambda: self.row(
                "SELECT p.applied_seq FROM cpq.inbox_event AS i JOIN cpq.order_projection AS p ON p.order_id = %s "
                "WHERE i.consumer_group = %s AND i.event_id = %s AND p.state = 'completed'",
                order_id, CONSUMER_GROUP, sent["event_id"],
            ),
        )  # fmt: skip
        return f"event {sent['event_id']} at {ORDER_TOPIC}/{sent['partition']}@{sent['at']}"

    def completed(self) -> str:
        """The order is completed, in the database and over HTTP."""
        order_id = self.found["order"]["id"]
        row = self.row("SELECT state FROM cpq.product_order WHERE order_id = %s", order_id)
        answered = self.call("GET", f"/v1/orders/{order_id}")["state"]
        if row is None or row["state"] != "completed" or answered != "completed":
            raise StepFailedError(f"order {order_id}: database says {row}, API says {answered}")
        return f"order {order_id} completed"

    # --- reading only --------------------------------------------------------------------------------------------

    def latest_order(self) -> str:
        """The tenant's newest completed order reads the same over HTTP, in the projection and in Kafka."""
        row = self.row(
            "SELECT o.order_id::text AS id, o.state, p.state AS projected, e.event_id::text AS event_id, "
            "e.kafka_partition AS partition, e.kafka_offset AS at FROM cpq.product_order AS o "
            "LEFT JOIN cpq.order_projection AS p USING (order_id) LEFT JOIN cpq.outbox_event AS e ON e.aggregate_id = "
            "o.order_id AND e.aggregate_seq = o.aggregate_seq WHERE o.tenant_id = %s AND o.state = 'completed' "
            "ORDER BY o.updated_at DESC LIMIT 1",
            self.options["tenant"],
        )
        if row is None:
            return "the tenant has no completed order yet"
        answered = self.call("GET", f"/v1/orders/{row['id']}")["state"]
        if not row["state"] == row["projected"] == answered:
            raise StepFailedError(
                f"order {row['id']}: database {row['state']}, projection {row['projected']}, API {answered}"
            )
        record = self.record_at(ORDER_TOPIC, row["partition"], row["at"])
        if dict(record.headers).get("ce_id", b"").decode() != row["event_id"]:
            raise StepFailedError(f"{ORDER_TOPIC}/{row['partition']}@{row['at']} is not event {row['event_id']}")
        return f"order {row['id']}, event {row['event_id']}"

    # --- means ---------------------------------------------------------------------------------------------------

    def call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        key: str | None = None,
        version: int | None = None,
        expected: int = 200,
    ) -> dict[str, Any]:
        """Call the API like any client and return its document."""
        headers = {"Authorization": f"Bearer {self.token()}"}
        if key:
            headers["Idempotency-Key"] = key
        if version is not None:
            headers["If-Match"] = f'"{version}"'
        response = self.http.request(method, self.options["api_url"] + path, json=body, headers=headers)
        if response.status_code != expected:
            raise StepFailedError(f"{method} {path} answered {response.status_code}: {response.text[:500]}")
        document: dict[str, Any] = response.json()
        return document

    def token(self) -> str:
        """A token from the issuer, asked for once."""
        if "token" not in self.found:
            form = {
                "grant_type": "client_credentials",
                "tenant": self.options["tenant"],
                "scope": SCOPES,
            }
            credentials = (self.options["client_id"], self.options["client_secret"])
            response = self.http.post(self.options["token_url"], data=form, auth=credentials)
            if not response.is_success:
                raise StepFailedError(f"the issuer answered {response.status_code}: {response.text[:500]}")
            self.found["token"] = response.json()["access_token"]
        token: str = self.found["token"]
        return token

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """Ask the database as the observer."""
        found: list[dict[str, Any]] = self.database.execute(query, values).fetchall()
        return found

    def row(self, query: str, *values: Any) -> Any:
        """The first row of an answer, or None."""
        found = self.rows(query, *values)
        return found[0] if found else None

    def wait(self, expectation: str, look: Callable[[], Any]) -> Any:
        """Look until there is something to see."""
        deadline = time.monotonic() + self.options["timeout"]
        while True:
            seen = look()
            if seen:
                return seen
            if time.monotonic() > deadline:
                raise StepFailedError(f"within {self.options['timeout']:g} s it was not seen that {expectation}")
            time.sleep(PAUSE_SECONDS)

    def effects(self) -> list[str]:
        """What the external systems did for the order, by their own ledger: each step once."""
        if not self.options["ledger_url"]:
            return []
        response = self.http.get(self.options["ledger_url"], params={"orderId": self.found["order"]["id"]})
        # environment:tenant:order:step:epoch
        steps = sorted(effect["idempotencyKey"].split(":")[3] for effect in response.json()["effects"])
        if not steps or len(set(steps)) != len(steps):
            raise StepFailedError(f"effects in the ledger: {steps or 'none'}")
        return steps

    def consumer(self) -> Any:
        """A Kafka consumer of our own, without a group, made once."""
        if "consumer" not in self.found:
            ca = self.options["kafka_ca_file"]
            security = (
                {"security_protocol": "SASL_SSL", "ssl_cafile": ca} if ca else {"security_protocol": "SASL_PLAINTEXT"}
            )
            self.found["consumer"] = KafkaConsumer(
                bootstrap_servers=self.options["kafka_servers"],
                client_id="cpq-oms-smoke",
                group_id=None,
                enable_auto_commit=False,
                **security,
                sasl_mechanism="SCRAM-SHA-256",
                sasl_plain_username="observer",
                sasl_plain_password=self.options["kafka_password"],
                request_timeout_ms=10_000,
            )
        return self.found["consumer"]

    def record_at(self, topic: str, partition: int, at: int) -> Any:
        """Read the record at one place of a topic."""
        place = TopicPartition(topic, partition)
        consumer = self.consumer()
        consumer.assign([place])
        consumer.seek(place, at)

        def read() -> Any:
            batches = consumer.poll(timeout_ms=500, max_records=1)
            return next((record for batch in batches.values() for record in batch), None)

        record = self.wait(f"{topic}/{partition}@{at} is readable", read)
        if record.offset != at:
            raise StepFailedError(f"{topic}/{partition}: asked for offset {at}, got {record.offset}")
        return record

    def engine_records(self) -> list[dict[str, Any]]:
        """What the engine exported since the run began; each call reads on."""
        consumer = self.consumer()
        places = [TopicPartition(ENGINE_TOPIC, number) for number in consumer.partitions_for_topic(ENGINE_TOPIC) or ()]
        if not places:
            raise StepFailedError(f"topic {ENGINE_TOPIC} does not exist")
        if "engine_offsets" not in self.found:
            ends = consumer.end_offsets(places)
            begun = consumer.offsets_for_times(dict.fromkeys(places, self.found["began_ms"]))
            self.found["engine_offsets"] = {
                place: begun[place].offset if begun.get(place) else ends[place] for place in places
            }
            self.found["engine_records"] = []
        consumer.assign(places)
        for place in places:
            consumer.seek(place, self.found["engine_offsets"][place])
        for place, batch in consumer.poll(timeout_ms=200).items():
            self.found["engine_records"] += [json.loads(record.value) for record in batch]
            self.found["engine_offsets"][place] = batch[-1].offset + 1
        records: list[dict[str, Any]] = self.found["engine_records"]
        return records


@dataclass(frozen=True)
class Step:
    """One line of the table: its name, how it is done, and whose journals tell why it failed."""

    name: str
    do: Callable[[Smoke], str]
    at_fault: tuple[str, ...]


READ_STEPS = (
    Step("migrations", Smoke.migrations, ("cpq-oms-migrate.service",)),
    Step("catalog", Smoke.catalog, ("cpq-oms-api.service",)),
    Step("latest order", Smoke.latest_order, ("cpq-oms-api.service", "cpq-oms-consumer@*")),
)
ORDER_STEPS = (
    Step("run migrations", Smoke.migrations, ("cpq-oms-migrate.service",)),
    Step("seed minimal catalog", Smoke.catalog, ("cpq-oms-api.service",)),
    Step("create quote", Smoke.create_quote, ("cpq-oms-api.service",)),
    Step("price quote", Smoke.price_quote, ("cpq-oms-api.service",)),
    Step("convert quote", Smoke.convert_quote, ("cpq-oms-api.service",)),
    Step("start workflow", Smoke.start_workflow, ("cpq-oms-worker@starter.service", "zeebe.service")),
    Step("execute a worker", Smoke.execute_worker, ("cpq-oms-worker@fulfillment.service", "cpq-oms-simulator.service")),
    Step("publish and consume an event", Smoke.publish_and_consume, ("cpq-oms-relay.service", "cpq-oms-consumer@*")),
    Step("order completed", Smoke.completed, ("cpq-oms-worker@fulfillment.service", "cpq-oms-api.service")),
)


def run(smoke: Smoke, steps: tuple[Step, ...]) -> Iterator[tuple[Step, dict[str, Any]]]:
    """Do the steps until one fails."""
    for step in steps:
        began = time.monotonic()
        try:
            evidence, passed = step.do(smoke), True
        except (StepFailedError, httpx.HTTPError, psycopg.Error, KafkaError, KeyError, OSError) as error:
            named = str(error) if isinstance(error, StepFailedError) else f"{type(error).__name__}: {error}"
            evidence, passed = named, False
        seconds = round(time.monotonic() - began, 2)
        yield step, {"step": step.name, "passed": passed, "evidence": evidence, "seconds": seconds}
        if not passed:
            return


def main() -> None:
    """Run as an Ansible module."""
    text = {"type": "str", "required": True}
    secret = {"type": "str", "required": True, "no_log": True}
    names = {"type": "list", "elements": "str", "required": True}
    module = AnsibleModule(
        argument_spec={
            "mode": {"type": "str", "choices": ["order", "read"], "required": True},
            "api_url": text,
            "ca_file": text,
            "token_url": text,
            "client_id": text,
            "client_secret": secret,
            "tenant": text,
            "database_url": text,
            "database_password": secret,
            "kafka_servers": names,
            "kafka_password": secret,
            "kafka_ca_file": {"type": "str", "default": ""},
            "ledger_url": text,
            "migrations": names,
            "timeout": {"type": "float", "required": True},
        },
    )
    if MISSING:
        module.fail_json(msg="the module needs the Python of the installed admin release", exception=MISSING)
    options = module.params
    steps = ORDER_STEPS if options["mode"] == "order" else READ_STEPS
    results: list[dict[str, Any]] = []
    try:
        database = psycopg.connect(
            options["database_url"],
            password=options["database_password"],
            autocommit=True,
            connect_timeout=5,
            row_factory=dict_row,
            application_name="smoke",
        )
    except psycopg.Error as error:
        module.fail_json(msg=f"the observer cannot connect: {error}", steps=results, at_fault=["postgresql*"])
    trust = ssl.create_default_context()
    if options["ca_file"]:
        try:
            trust.load_verify_locations(options["ca_file"])
        except (OSError, ssl.SSLError) as error:
            module.fail_json(msg=f"{options['ca_file']}: {error}", steps=results, at_fault=["cpq-oms-admin"])
    with database, httpx.Client(timeout=options["timeout"], trust_env=False, verify=trust) as http:
        smoke = Smoke(options, http, database, {"began_ms": int(time.time() * 1000)})
        for step, result in run(smoke, steps):
            results.append(result)
            if not result["passed"]:
                message = f"smoke test: {step.name}: {result['evidence']}"
                module.fail_json(msg=message, steps=results, at_fault=list(step.at_fault), changed=False)
    # A smoke order is a client's order: it changes what the platform holds, not what the release manages.
    module.exit_json(changed=False, steps=results)


if __name__ == "__main__":
    main()
