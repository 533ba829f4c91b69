"""Which keys are used most, how many there are, and which nobody declared."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from app.adapters.redis.inspection import inspect
from app.adapters.redis.keys import Keys
from app.contracts.loader import load_redis_keys
from app.entrypoints.admin.outcome import Outcome, failed
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    most: Annotated[int, typer.Option(min=1, max=1000, help="How many of the hot keys to show.")] = 20,
) -> Outcome:
    """Look at every key in Redis; fails by the names of keys that are not of redis_keys.yml."""
    session: Session = context.obj
    return asyncio.run(_inspect(session, most))


async def _inspect(session: Session, most: int) -> Outcome:
    settings = session.settings
    password = settings.redis_password.get_secret_value()
    keys = Keys(load_redis_keys(), settings.app_env)
    found = await inspect(settings.redis_url, password, settings.tls_ca_file, keys, most)
    data = {"hot": found.hot, "counts": found.counts}
    if found.undeclared:
        return failed(
            [f"{key}: of no kind that redis_keys.yml declares for {settings.app_env}" for key in found.undeclared], data
        )
    return Outcome(data=data)
