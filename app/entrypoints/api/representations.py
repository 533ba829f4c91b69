"""How quotes, orders and offerings look on the wire. Amounts are decimal strings: a JSON number would lose digits."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from app.application.idempotency import Response
from app.application.queries import PublishedCatalog
from app.domain.catalog import ProductOffering
from app.domain.order import Order
from app.domain.quote import Quote, QuoteItem
from app.domain.values import Money

JSON = "application/json"


def etag(version: int) -> str:
    """The strong entity tag of a version."""
    return f'"{version}"'


def created_quote(quote: Quote) -> Response:
    """201 with the quote."""
    return _created(f"/v1/quotes/{quote.quote_id}", quote.version, quote_document(quote))


def created_order(order: Order) -> Response:
    """201 with the order."""
    return _created(f"/v1/orders/{order.order_id}", order.version, order_document(order))


def _created(location: str, version: int, document: dict[str, Any]) -> Response:
    headers = {"Content-Type": JSON, "Location": location, "ETag": etag(version)}
    return Response(201, headers, msgspec.json.encode(document))


def quote_document(quote: Quote) -> dict[str, Any]:
    """A quote with items and price waterfall."""
    return {
        "id": str(quote.quote_id),
        "href": f"/v1/quotes/{quote.quote_id}",
        "state": quote.state,
        "version": quote.version,
        "customerId": quote.customer_id,
        "currency": quote.currency,
        "catalogVersion": quote.catalog_version,
        "validFor": {"endDateTime": _instant(quote.valid_until)},
        "pricedAt": _instant(quote.priced_at),
        "totalOneTime": _amount(quote.total_one_time),
        "totalRecurring": _amount(quote.total_recurring),
        "items": [_quote_item(item) for item in quote.items],
        "createdBy": quote.created_by,
        "createdAt": _instant(quote.created_at),
        "updatedAt": _instant(quote.updated_at),
    }


def _quote_item(item: QuoteItem) -> dict[str, Any]:
    return {
        "itemNo": item.item_no,
        "action": item.action,
        "offeringId": item.offering_id,
        "quantity": item.quantity,
        "totalOneTime": _amount(item.total_one_time),
        "totalRecurring": _amount(item.total_recurring),
        "priceWaterfall": [
            {
                "priceType": step.price_type,
                "step": step.step,
                "reason": step.reason,
                "amountBefore": format(step.amount_before, "f"),
                "amountAfter": format(step.amount_after, "f"),
            }
            for step in item.steps
        ],
    }


def order_document(order: Order) -> dict[str, Any]:
    """An order with its items."""
    return {
        "id": str(order.order_id),
        "href": f"/v1/orders/{order.order_id}",
        "state": order.state,
        "version": order.version,
        "quoteId": str(order.quote_id),
        "customerId": order.customer_id,
        "currency": order.currency,
        "catalogVersion": order.catalog_version,
        "totalOneTime": _amount(order.total_one_time),
        "totalRecurring": _amount(order.total_recurring),
        "items": [
            {
                "itemNo": item.item_no,
                "action": item.action,
                "offeringId": item.offering_id,
                "quantity": item.quantity,
                "totalOneTime": _amount(item.total_one_time),
                "totalRecurring": _amount(item.total_recurring),
            }
            for item in order.items
        ],
        "createdBy": order.created_by,
        "createdAt": _instant(order.created_at),
        "updatedAt": _instant(order.updated_at),
    }


def catalog_document(catalog: PublishedCatalog) -> dict[str, Any]:
    """The sellable offerings of the active catalog version."""
    return {
        "catalogVersion": catalog.catalog_version,
        "offerings": [_offering(offering) for offering in catalog.offerings],
    }


def _offering(offering: ProductOffering) -> dict[str, Any]:
    return {
        "id": offering.offering_id,
        "name": offering.name,
        "productLine": offering.product_line,
        "prices": [
            {
                "priceType": price.price_type,
                "currency": price.currency,
                "unitAmount": format(price.unit_amount, "f"),
                "recurringPeriod": price.recurring_period,
            }
            for price in offering.prices
        ],
        "tiers": [
            {
                "priceType": tier.price_type,
                "minQuantity": tier.min_quantity,
                "discountPercent": format(tier.discount_percent, "f"),
                "reason": tier.reason,
            }
            for tier in offering.tiers
        ],
    }


def _amount(money: Money | None) -> str | None:
    return None if money is None else str(money)


def _instant(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
