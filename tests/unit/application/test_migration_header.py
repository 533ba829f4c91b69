"""What a migration must say of itself: each thing that it lacks or contradicts is named with its file."""

from __future__ import annotations

from datetime import timedelta

import pytest

from app.application.migration_header import Budget, Removed, header_problems, phase_of, read_header

EXPAND = "0030_expand_note"
BACKFILL = "0031_backfill_note"
CONTRACT = "0032_contract_remark"
BUDGET = "-- budget: lock 200ms, duration 5s"
FILES = {
    EXPAND: f"-- depends: 0029_expand_x\n{BUDGET}\nALTER TABLE cpq.quote ADD COLUMN note text;",
    BACKFILL: f"-- depends: {EXPAND}\n{BUDGET}\nSELECT 1;",
    CONTRACT: f"""-- depends: {BACKFILL}
{BUDGET}
-- replaced-by: {EXPAND}
-- needs: {BACKFILL}
-- removes: column cpq.quote.remark
-- removes: function cpq.remarks(integer)
-- removes: topic quotes.v1
-- removes: redis-value offering 1
-- last-needed-by: generation 3
SET lock_timeout = '1s';
ALTER TABLE cpq.quote DROP COLUMN IF EXISTS remark;
DROP FUNCTION cpq.remarks(integer);
""",
}


def test_a_head_says_what_its_lines_say() -> None:
    header = read_header(CONTRACT, FILES[CONTRACT])

    assert header.budget == Budget(timedelta(milliseconds=200), timedelta(seconds=5))
    assert (header.replaced_by, header.needs, header.last_needed_by) == (EXPAND, (BACKFILL,), 3)
    assert header.removes == (
        Removed("column", "cpq.quote.remark"),
        Removed("function", "cpq.remarks(integer)"),
        Removed("topic", "quotes.v1"),
        Removed("redis-value", "offering 1"),
    )
    assert header_problems(FILES) == []


def test_what_stands_below_the_first_statement_is_no_head() -> None:
    assert read_header("0001_expand_x", "SELECT 1;\n-- budget: lock 1s, duration 2s\n").budget is None


def test_a_file_from_before_budgets_needs_none() -> None:
    assert header_problems({"0001_expand_x": "-- depends: none\nSELECT 1;"}) == []


@pytest.mark.parametrize(
    ("name", "phase"), [(EXPAND, "expand"), (CONTRACT, "contract"), ("0030_switch_note", None), ("30_expand_x", None)]
)
def test_the_phase_is_in_the_name(name: str, phase: str | None) -> None:
    assert phase_of(name) == phase


@pytest.mark.parametrize(
    ("name", "old", "new", "problem"),
    [
        (EXPAND, BUDGET, "-- quick", f"migrations/{EXPAND}.sql: has no budget; expected -- budget: lock 200ms, duration 5s"),
        (BACKFILL, BUDGET, "-- quick", f"migrations/{BACKFILL}.sql: has no budget; expected -- budget: lock 200ms, duration 5s"),
        (EXPAND, "lock 200ms", "lock 200", f"migrations/{EXPAND}.sql: -- budget: lock 200, duration 5s: expected lock 200ms, duration 5s"),
        (EXPAND, "lock 200ms", "lock 9s", "a lock is held no longer than the migration runs"),
        (EXPAND, BUDGET, f"{BUDGET}\n{BUDGET}", f"migrations/{EXPAND}.sql: -- budget: is there 2 times, expected once"),
        (EXPAND, BUDGET, f"{BUDGET}\n-- needs: {CONTRACT}", f"-- needs: {CONTRACT}: there is no such migration before it"),
        (EXPAND, BUDGET, f"{BUDGET}\n-- removes: table cpq.quote", "-- removes:, -- last-needed-by: and -- replaced-by: belong to a contract migration"),
        (CONTRACT, f"-- replaced-by: {EXPAND}", "--", "does not say what replaces what it removes; expected -- replaced-by: NNNN_expand_…"),
        (CONTRACT, f"-- replaced-by: {EXPAND}", f"-- replaced-by: {BACKFILL}", f"-- replaced-by: {BACKFILL}: there is no such expand migration before it"),
        (CONTRACT, f"-- needs: {BACKFILL}", "--", f"does not say that it needs {BACKFILL}; expected -- needs: {BACKFILL}"),
        (CONTRACT, "-- last-needed-by: generation 3", "--", "does not say who needed it last; expected -- last-needed-by: generation N"),
        (CONTRACT, "generation 3", "release 3", "-- last-needed-by: release 3: expected generation N"),
        (CONTRACT, "-- removes: column cpq.quote.remark", "--", "drops column remark and does not say so; expected -- removes: column cpq.…remark"),
        (CONTRACT, "DROP COLUMN IF EXISTS remark", "ALTER COLUMN remark DROP NOT NULL", "-- removes: column remark: no statement drops it"),
        (CONTRACT, "-- removes: topic quotes.v1", "-- removes: stream quotes.v1", "-- removes: stream quotes.v1: expected one of table, column,"),
    ],
)  # fmt: skip
def test_what_a_head_lacks_or_contradicts_is_named(name: str, old: str, new: str, problem: str) -> None:
    assert old in FILES[name]

    (found,) = header_problems(FILES | {name: FILES[name].replace(old, new)})

    assert found.startswith(f"migrations/{name}.sql: ")
    assert problem in found
