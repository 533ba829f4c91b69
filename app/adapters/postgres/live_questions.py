"""Answers what a verdict asks of live data: how many there are, and which are the oldest. Reads only."""

from __future__ import annotations

from collections.abc import Iterable

import psycopg

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import Connection
from app.application.release_plan.model import Answer, Question

_SQL = NamedBlocks("live_questions")
_NAMED = 10


class LiveQuestions:
    """One session of the operators' role, which sees all tenants."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def answers(self, questions: Iterable[Question]) -> dict[Question, Answer | None]:
        """Answer each question by one statement; None where it did not end within the statement timeout, or waited for a lock."""
        return {question: await self._answer(question) for question in questions}

    async def _answer(self, question: Question) -> Answer | None:
        values = {"names": list(question.names), "field": question.field, "named": _NAMED}
        try:
            cursor = await self._connection.execute(_SQL[question.asked.name.lower()], values)
        except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable):
            # A lock that somebody holds has half of a statement's time.
            return None
        row = await cursor.fetchone()
        return Answer(row["count"], tuple(row["ids"])) if row else Answer(0)
