"""redis_server: a server that was left with other users than its file declares is found out, whatever the order of words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.ansible_modules import load

module: Any = load("redis_server", Path(__file__).parents[3] / "roles/redis/library")

FILE = """\
user default off resetpass resetkeys resetchannels -@all
user api on resetpass #aa #bb resetkeys ~*:catalog:* %R~*:list resetchannels -@all +get +set
"""
LISTED = """\
user default off sanitize-payload resetchannels -@all
user api on sanitize-payload #bb #aa ~*:catalog:* %R~*:list resetchannels -@all +get +set
"""


def test_what_the_server_lists_is_what_its_file_declares() -> None:
    assert module.rules(FILE) == module.rules(LISTED)


def test_another_password_key_or_command_is_a_difference() -> None:
    for word, other in (("#bb", "#cc"), ("%R~*:list", "~*:list"), ("+set", "+set +flushall"), ("#bb", "")):
        assert module.rules(FILE)["api"] != module.rules(LISTED.replace(word, other))["api"], word
