#!/usr/bin/python
"""Ansible module: figures of a time, of the Prometheus that answers on this host alone."""

from __future__ import annotations

import json
import math
import time
import urllib.parse
import urllib.request
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: prometheus_figures
short_description: Ask Prometheus for figures before and since a moment
description: Reads only. Where no answer comes, the result says why in place of figures; the task does not fail.
options:
  url: {description: Where it answers., type: str, required: true}
  panels: {description: "What is asked, each with title, unit, query and legend.", type: list, elements: dict, required: true}
  began: {description: The moment in seconds since the epoch., type: float, required: true}
  before_seconds: {description: How much of the time before is asked for., type: int, default: 900}
attributes:
  check_mode: {support: full}
"""

RETURN = r"""
figures: {description: "start, began, end; of each panel its series; `unseen`: why there is none.", returned: always, type: dict}
"""

TIMEOUT_SECONDS = 5
MOST_POINTS = 180
SCRAPE_SECONDS = 15
MOST_SERIES = 12


def asked(url: str, query: str, start: float, end: float) -> list[dict[str, Any]]:
    """Return the series of a query, each with its labels and its values of a time.

    Raises:
        OSError, ValueError, KeyError: no answer, or not to this question.
    """
    step = max(SCRAPE_SECONDS, math.ceil((end - start) / MOST_POINTS))
    words = urllib.parse.urlencode({"query": query, "start": start, "end": end, "step": step})
    with urllib.request.urlopen(f"{url}/api/v1/query_range?{words}", timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - the inventory says where
        found = json.load(answer)["data"]["result"]
    return [{"labels": one["metric"], "values": one["values"]} for one in found[:MOST_SERIES]]


def figures(url: str, panels: list[dict[str, Any]], start: float, began: float, end: float) -> dict[str, Any]:
    """Return all panels; after the first question without an answer no other is asked."""
    found: dict[str, Any] = {"start": start, "began": began, "end": end, "panels": [], "unseen": ""}
    for panel in panels:
        try:
            found["panels"].append({**panel, "series": asked(url, panel["query"], start, end)})
        except (OSError, ValueError, KeyError) as error:
            return {**found, "panels": [], "unseen": f"{panel['title']}: {type(error).__name__}: {error}"}
    return found


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "panels": {"type": "list", "elements": "dict", "required": True},
            "began": {"type": "float", "required": True},
            "before_seconds": {"type": "int", "default": 900},
        },
        supports_check_mode=True,
    )
    given = module.params
    start = given["began"] - given["before_seconds"]
    module.exit_json(changed=False, figures=figures(given["url"], given["panels"], start, given["began"], time.time()))


if __name__ == "__main__":
    main()
