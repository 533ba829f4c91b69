"""A key that is not declared cannot be made, and one that is found is known by its kind."""

from __future__ import annotations

import pytest

from app.adapters.redis.keys import KeyRefusedError, Keys
from app.contracts.loader import load_redis_keys

KEYS = Keys(load_redis_keys(), "local")


def test_environment_and_tenant_come_first_and_the_version_is_part() -> None:
    key = KEYS.key("catalog_offering", "acme", catalog_version=3, offering_id="fiber-1000")

    assert key == "local:acme:catalog:3:offering:fiber-1000"
    assert KEYS.index("catalog_offering", "acme") == "local:acme:index:catalog-offering"
    assert KEYS.key("rate_limit", "acme", client="c0ffee", window="read") == "local:acme:rate-limit:c0ffee:read"


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("session", {"id": "1"}),
        ("catalog_offering", {"catalog_version": 3}),
        ("catalog_offering", {"catalog_version": 3, "offering_id": "x", "more": "y"}),
        ("catalog_offering", {"catalog_version": 3, "offering_id": "x:y"}),
        ("catalog_offering", {"catalog_version": 3, "offering_id": "*"}),
        ("catalog_offering", {"catalog_version": 3, "offering_id": ""}),
        ("rate_limit", {"client": "a b", "window": "read"}),
    ],
)
def test_an_undeclared_key_is_refused(name: str, parts: dict[str, str | int]) -> None:
    with pytest.raises(KeyRefusedError):
        KEYS.key(name, "acme", **parts)


def test_a_tenant_cannot_be_taken_for_two_parts() -> None:
    with pytest.raises(KeyRefusedError):
        KEYS.key("rate_limit", "acme:rate-limit", client="x", window="read")


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("local:acme:catalog:3:offering:fiber-1000", "catalog_offering"),
        ("local:acme:rate-limit:c0ffee:read", "rate_limit"),
        ("local:acme:index:rate-limit", "key_index"),
        ("local:acme:catalog:active-version", None),
        ("acme:catalog:3:offering:x", None),
        ("local:acme:session:1", None),
        ("local:acme:catalog:3:offering:x:y", None),
        ("prod:acme:rate-limit:c0ffee:read", None),
    ],
)
def test_a_key_found_in_redis_is_known_by_its_kind(key: str, kind: str | None) -> None:
    assert KEYS.kind_of(key) == kind


@pytest.mark.parametrize(
    ("key", "is_foreign"),
    [("local:acme:session:1", False), ("prod:acme:index:x", True), ("locally:acme", True), ("acme", True), ("", True)],
)
def test_a_key_of_another_environment_is_known_by_its_first_part(key: str, is_foreign: bool) -> None:
    assert KEYS.is_foreign(key) is is_foreign


@pytest.mark.parametrize("user", ["api", "admin"])
def test_a_user_may_write_keys_of_its_environment_and_no_others(user: str) -> None:
    patterns = load_redis_keys().users[user].keys_of("local")

    assert {pattern for pattern in patterns if not pattern.startswith(("~local:*:", "%R~"))} == set()
    assert any(pattern.startswith("~local:*:") for pattern in patterns)
