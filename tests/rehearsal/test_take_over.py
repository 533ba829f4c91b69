"""Any one host may lose its power: no acknowledged order is lost, each is completed, and the API answers again within seconds."""

from __future__ import annotations

import time

import pytest

from tests.rehearsal.database import Database
from tests.support.rehearsal import ORDERS_A_SECOND, Rehearsal

# Each tier's first host; which one leads there is nobody's choice.
TIERS = (
    "edge",
    "api",
    "callback",
    "db",
    "witness",
    "backup",
    "kafka",
    "zeebe",
    "worker",
    "relay",
    "consumer",
    "redis",
    "admin",
    "observability",
)
BEFORE_SECONDS = 4
AFTER_SECONDS = 25
# Longer than a lease of the database's cluster (20 s) and a client's patience; idle machines need less than half.
LONGEST_PAUSE_SECONDS = 45
EVENTS_SECONDS = 60
UNPUBLISHED = "SELECT count(*) FROM cpq.outbox_event WHERE state <> 'published'"
BEHIND = """
SELECT count(*) FROM cpq.product_order LEFT JOIN cpq.order_projection AS known USING (order_id)
WHERE order_id = ANY ('{%s}') AND known.state IS DISTINCT FROM product_order.state
"""


@pytest.mark.parametrize("tier", TIERS)
def test_no_acknowledged_order_is_lost_with_a_host(rehearsal: Rehearsal, tier: str) -> None:
    host = rehearsal.groups[tier][0]
    with rehearsal.customers(rate=ORDERS_A_SECOND) as told:
        time.sleep(BEFORE_SECONDS)
        rehearsal.kill(host)
        time.sleep(AFTER_SECONDS)
    rehearsal.start(host)

    print(
        f"{host}: {len(told['orders'])} orders, longest pause {told['pause']:.1f} s, {len(told['failed'])} attempts repeated"
    )
    assert told["gave_up"] == []
    assert told["missing"] == []
    assert told["unfinished"] == {}
    assert len(told["orders"]) > len([moment for moment in told["answered"] if moment < BEFORE_SECONDS]), (
        "none after the loss"
    )
    assert told["pause"] < LONGEST_PAUSE_SECONDS
    # What happened to the orders is told to everybody, too: those who took over publish it, and consumers apply it once.
    database = Database(rehearsal)
    rehearsal.until(lambda: database.superuser(UNPUBLISHED).strip() == "0", "every event is published", EVENTS_SECONDS)
    behind = BEHIND.replace("\n", " ") % ",".join(told["orders"].values())
    rehearsal.until(lambda: database.superuser(behind).strip() == "0", "the projection has every order", EVENTS_SECONDS)
