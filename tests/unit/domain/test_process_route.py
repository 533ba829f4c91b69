"""A case gets the version of the route that asks for most of what it is, whatever the order the routes come in."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from app.domain.order import OrderType
from app.domain.process_route import BusinessCase, ProcessRoute, choose
from app.domain.quote import ItemAction
from app.domain.values import TenantId
from tests.support.builders import NOON
from tests.unit.fulfillment.conftest import an_order

CASE = BusinessCase(
    business_process="order-fulfillment",
    tenant_id=TenantId("acme"),
    at=NOON,
    enabled_flags=frozenset({"order-fulfillment-v2"}),
    order_type=OrderType.ADD,
    catalog_version=7,
)


def route(number: int = 1, version: int = 2, **changes: Any) -> ProcessRoute:
    values: dict[str, Any] = {
        "route_id": UUID(int=number),
        "business_process": "order-fulfillment",
        "process_id": f"order-fulfillment-v{version}",
        "priority": 0,
        "valid_from": NOON - timedelta(days=1),
    }
    return ProcessRoute(**values | changes)


@pytest.mark.parametrize(
    "conditions",
    [
        {},
        {"tenant_id": TenantId("acme")},
        {"order_type": OrderType.ADD},
        {"catalog_from": 7},
        {"catalog_to": 7},
        {"catalog_from": 1, "catalog_to": 9},
        {"flag": "order-fulfillment-v2"},
        {"valid_from": NOON},
        {"valid_to": NOON + timedelta(seconds=1)},
    ],
)
def test_a_route_takes_a_case_that_meets_its_conditions(conditions: dict[str, Any]) -> None:
    assert route(**conditions).takes(CASE)


@pytest.mark.parametrize(
    "conditions",
    [
        {"business_process": "quote-approval"},
        {"tenant_id": TenantId("globex")},
        {"order_type": OrderType.MODIFY},
        {"catalog_from": 8},
        {"catalog_to": 6},
        {"flag": "another"},
        {"product_line": "broadband"},
        {"valid_from": NOON + timedelta(seconds=1)},
        {"valid_to": NOON},
    ],
)
def test_a_route_takes_no_case_that_misses_one(conditions: dict[str, Any]) -> None:
    assert not route(**conditions).takes(CASE)


def test_a_condition_the_case_knows_nothing_about_holds_for_none() -> None:
    case = replace(CASE, order_type=None, catalog_version=None)

    assert not route(order_type=OrderType.ADD).takes(case)
    assert not route(catalog_from=1).takes(case)
    assert route().takes(case)


def test_priority_comes_before_all_then_the_tenants_own_then_the_one_that_asks_for_most() -> None:
    routes = [
        route(1, 1),
        route(2, 2, order_type=OrderType.ADD, catalog_from=1),
        route(3, 3, tenant_id=TenantId("acme")),
        route(4, 4, tenant_id=TenantId("acme"), order_type=OrderType.ADD),
        route(5, 5, priority=1),
    ]

    best = [5, 4, 3, 2, 1]
    for expected in best:
        for ordering in itertools.permutations(routes):
            chosen = choose(ordering, CASE)
            assert chosen is not None
            assert chosen.process_id == f"order-fulfillment-v{expected}"
        routes = [each for each in routes if each.process_id != f"order-fulfillment-v{expected}"]
    assert choose([], CASE) is None


def test_with_the_flag_off_the_case_goes_to_the_next_route() -> None:
    routes = [route(1, 1), route(2, 2, flag="order-fulfillment-v2", priority=10)]

    on, off = choose(routes, CASE), choose(routes, replace(CASE, enabled_flags=frozenset()))

    assert on is not None
    assert off is not None
    assert (on.process_id, off.process_id) == ("order-fulfillment-v2", "order-fulfillment-v1")


def test_a_quote_approval_is_routed_by_tenant_product_line_and_flag() -> None:
    case = BusinessCase("quote-approval", TenantId("acme"), NOON, product_lines=frozenset({"broadband", "voice"}))
    routes = [
        route(1, business_process="quote-approval", process_id="quote-approval-v1"),
        route(2, business_process="quote-approval", process_id="quote-approval-v2", product_line="voice"),
        route(3, business_process="quote-approval", process_id="quote-approval-v3", product_line="mobile"),
    ]

    chosen = choose(routes, case)

    assert chosen is not None
    assert chosen.process_id == "quote-approval-v2"


def test_a_route_says_what_it_asks_for() -> None:
    asked = route(tenant_id=TenantId("acme"), order_type=OrderType.ADD, catalog_from=3, flag="f")

    assert route().description == "every case"
    assert asked.description == "tenant acme, order-type add, catalog-version 3-, flag f"
    assert route(catalog_to=5).description == "catalog-version 1-5"


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        ([ItemAction.ADD, ItemAction.ADD], OrderType.ADD),
        ([ItemAction.MODIFY, ItemAction.NO_CHANGE], OrderType.MODIFY),
        ([ItemAction.DELETE], OrderType.DELETE),
        ([ItemAction.ADD, ItemAction.DELETE], OrderType.MIXED),
        ([ItemAction.NO_CHANGE], OrderType.MIXED),
    ],
)
def test_an_orders_type_is_the_action_of_its_items(actions: list[ItemAction], expected: OrderType) -> None:
    order = an_order()
    items = tuple(replace(order.items[0], item_no=number, action=action) for number, action in enumerate(actions, 1))

    assert replace(order, items=items).order_type is expected
