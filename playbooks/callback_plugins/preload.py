"""Loads filters and tests once, in the process that starts the workers.

Each task of each host is a worker of its own, forked when it is due. What a worker imports is gone with it: without this every one of them
loads all filter plugins for the first filter that it meets, ours with the contracts they read among them, which took half of the time
of a release to many hosts.
"""

from __future__ import annotations

from typing import Any

from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import filter_loader, test_loader

DOCUMENTATION = """
name: preload
type: aggregate
short_description: loads filters and tests before the first worker is forked
description: Workers inherit what is loaded; they need not load it for each task of each host.
"""


class CallbackModule(CallbackBase):
    """Says nothing."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "preload"

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Load whatever the play's roles have added."""
        for loader in (filter_loader, test_loader):
            for _ in loader.all():
                pass
