"""The released API does what its own document says, whatever is sent to it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.api_client import ApiClient
from tests.support.released_host import find_host

CONFIGURATION = Path(__file__).resolve().parents[3] / ".config/schemathesis.toml"
SEED = 1
SECONDS = 20


@pytest.fixture(scope="module")
def client() -> Iterator[ApiClient]:
    """A client with limits of its own."""
    client = ApiClient(find_host(), client="document")
    yield client
    client.close()


@pytest.mark.timeout(180)
def test_what_the_api_answers_is_in_its_document(client: ApiClient) -> None:
    order = client.order()
    url = str(client.api.base_url).rstrip("/")
    known = {"DOCUMENT_ORDER_ID": order["id"], "DOCUMENT_QUOTE_ID": order["quoteId"]}

    held = subprocess.run(
        [
            str(Path(sys.executable).with_name("st")),
            f"--config-file={CONFIGURATION}",
            "--no-color",
            "run",
            f"{url}/openapi.json",
            f"--url={url}",
            f"--header=Authorization: {client.api.headers['Authorization']}",
            f"--seed={SEED}",
            f"--max-time={SECONDS}",
            "--continue-on-failure",
        ],
        env={**os.environ, **known},
        capture_output=True,
        text=True,
        check=False,
    )

    assert held.returncode == 0, held.stdout + held.stderr
