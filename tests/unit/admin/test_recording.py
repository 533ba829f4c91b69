"""What commands are told of the record of releases is refused by name where it is malformed."""

from __future__ import annotations

import pytest

from app.application.release_record import Head, Place
from app.entrypoints.admin import recording
from app.entrypoints.admin.wiring import InputError

HASH = "a" * 64


def test_the_end_of_a_copy_is_read() -> None:
    assert recording.head_of("") == Head()
    assert recording.head_of(f"12:{HASH}") == Head(12, HASH)


@pytest.mark.parametrize("text", [f"0:{HASH}", f":{HASH}", "12", f"12:{HASH}f", f"x:{HASH}", "12:" + "z" * 64])
def test_an_end_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--known: expected SEQUENCE:HASH"):
        recording.head_of(text)


def test_hosts_are_read_with_their_releases() -> None:
    assert recording.places(["api-1 - r-2", "api-2 r-1 r-2"]) == [
        Place("api-1", "", "r-2"),
        Place("api-2", "r-1", "r-2"),
    ]


@pytest.mark.parametrize("text", ["", "api-1", "api-1 r-1", "api-1 r-1 r-2 r-3", "- r-1 r-2"])
def test_a_host_without_its_releases_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--on: expected 'HOST BEFORE AFTER'"):
        recording.places([text])
