"""A flow is in a canary wholly or not at all, and by nothing that changes while it lasts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.canary import BUCKETS, Cohort, Dimension, Flow, bucket
from app.domain.values import TenantId

TENANTS = st.from_regex(r"[a-z][a-z0-9-]{1,62}", fullmatch=True).map(TenantId)
FLOWS = st.builds(
    Flow,
    TENANTS,
    st.frozensets(st.sampled_from(["broadband", "voice", "tv"])),
    st.sampled_from([None, "order-fulfillment-v1", "order-fulfillment-v2"]),
)
BUCKETS_OF = [14, 75, 12]
ACME = Flow(TenantId("acme"), frozenset({"broadband", "voice"}), "order-fulfillment-v2")


@pytest.mark.parametrize(
    ("cohort", "held"),
    [
        ("tenant:acme", True),
        ("tenant:globex,acme", True),
        ("tenant:acm", False),
        ("product-line:voice", True),
        ("product-line:tv", False),
        ("process:order-fulfillment-v2", True),
        ("process:order-fulfillment-v1", False),
        (f"percent:{bucket(ACME.tenant_id) + 1}", True),
        (f"percent:{bucket(ACME.tenant_id)}", False),
    ],
)
def test_a_flow_is_held_by_what_it_is(cohort: str, held: bool) -> None:
    assert Cohort.parse(cohort).holds(ACME) is held


def test_an_order_that_is_not_there_yet_is_in_no_cohort_of_a_process() -> None:
    assert not Cohort.parse("process:order-fulfillment-v2").holds(Flow(TenantId("acme")))


@pytest.mark.parametrize("dimension", [Dimension.CHANNEL, Dimension.PARTNER])
def test_what_the_data_does_not_know_is_refused_by_name(dimension: str) -> None:
    with pytest.raises(ValueError, match=f"neither quotes nor orders know their {dimension}"):
        Cohort.parse(f"{dimension}:web")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "acme",
        "tenant",
        "tenant:",
        "tenant:acme,",
        "region:eu",
        "percent:0",
        "percent:100",
        "percent:1,2",
        "percent:x",
    ],
)
def test_what_is_no_cohort_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="cohort"):
        Cohort.parse(text)


@given(tenant=TENANTS, flows=st.lists(FLOWS), smaller=st.integers(1, BUCKETS - 1), larger=st.integers(1, BUCKETS - 1))
def test_a_larger_percentage_only_adds_tenants_and_takes_each_whole(
    tenant: TenantId, flows: list[Flow], smaller: int, larger: int
) -> None:
    smaller, larger = sorted((smaller, larger))
    of_tenant = [Flow(tenant, flow.product_lines, flow.process_id) for flow in flows]
    before, after = (
        {Cohort.parse(f"percent:{percent}").holds(flow) for flow in of_tenant} for percent in (smaller, larger)
    )

    assert len(before) <= 1
    assert before != {True} or after == {True}


def test_a_tenant_keeps_its_bucket_from_release_to_release() -> None:
    assert [bucket(TenantId(tenant)) for tenant in ("acme", "globex-mobile", "release-proof")] == BUCKETS_OF


def test_a_percentage_takes_about_so_many_tenants() -> None:
    tenants = [TenantId(f"tenant-{number}") for number in range(10_000)]
    held = sum(Cohort.parse("percent:10").holds(Flow(tenant)) for tenant in tenants)

    assert 900 < held < 1100


@given(
    cohort=st.sampled_from(["tenant:acme,globex", "percent:7", "product-line:voice", "process:order-fulfillment-v2"])
)
def test_a_cohort_is_read_as_it_is_written(cohort: str) -> None:
    assert str(Cohort.parse(cohort)) == cohort
