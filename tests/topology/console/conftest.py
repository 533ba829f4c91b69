from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.api_client import ApiClient
from tests.support.released_host import ReleasedHost, find_host


@pytest.fixture(scope="session")
def host() -> ReleasedHost:
    """The host of the environment for tests, with the platform and its console running on it."""
    return find_host()


@pytest.fixture(scope="session")
def order(host: ReleasedHost) -> Iterator[str]:
    """An order that is completed."""
    client = ApiClient(host)
    try:
        order_id = str(client.order()["id"])
        host.wait_until(
            lambda: client.api.get(f"/v1/orders/{order_id}").json()["state"] == "completed", "the order is completed"
        )
        yield order_id
    finally:
        client.close()
