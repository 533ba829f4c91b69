"""Whether readers and writers of two releases understand each other's events.

While a release goes out, and as long as a topic keeps its records, old readers meet new events and new readers old ones.
So a version of a schema only grows: optional fields, and values of an enumeration marked `x-open`, which its readers
promised to accept. Everything else is a new version, on a topic of its own, beside the old one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

OPEN = "x-open"
"""Marks an enumeration whose readers accept values that they do not know."""

_IN_WORDS = frozenset({"title", "description", "$comment", "examples"})
_JUDGED = frozenset({"properties", "required", "enum", "type", "items", OPEN})
_ORDER = re.compile(r"cpq-oms-\d{4}\.\d{2}\.\d{2}-\d+")


@dataclass(frozen=True)
class Published:
    """The topics and event schemas of one release, by file name."""

    topics: Mapping[str, Mapping[str, Any]]
    schemas: Mapping[str, Mapping[str, Any]]


def parse(topics: Mapping[str, str], schemas: Mapping[str, str]) -> Published:
    """Read the files of any release, also those of one whose topics had other fields.

    Raises:
        ValueError: a file is neither YAML nor JSON, or holds no mapping; the message names it.
    """
    return Published(
        {name: mapping(name, text) for name, text in topics.items()},
        {name: mapping(name, text) for name, text in schemas.items()},
    )


def is_earlier(release_id: str, other: str) -> bool:
    """Tell whether the first release was made before the second, as their ids say; what differs from a commit is later."""
    first, second = _ORDER.match(release_id), _ORDER.match(other)
    return first is not None and second is not None and first.group() < second.group()


def problems(older: Published, newer: Published) -> Iterator[str]:
    """Say, a line each with file and field, what keeps the readers of one from the events of the other."""
    for name, topic in sorted(older.topics.items()):
        if topic.get("compatibility") == "none":
            continue
        if name not in newer.topics:
            yield f"topics/{name}: is gone; a topic stays as long as somebody may read it"
        else:
            yield from (f"topics/{name}: {problem}" for problem in _topic_problems(topic, newer.topics[name]))
    for name, schema in sorted(older.schemas.items()):
        if name not in newer.schemas:
            yield f"events/{name}: is gone; a version stays as long as its topic has events"
        else:
            yield from (f"events/{name}: {problem}" for problem in _schema_problems(schema, newer.schemas[name], ""))


def additions(older: Published, newer: Published) -> Iterator[str]:
    """Say, a line each with file and field, what readers of the older release meet as new and promised to pass over."""
    for name in sorted({*newer.topics} - {*older.topics}):
        yield f"topics/{name}: is new"
    for name, schema in sorted(newer.schemas.items()):
        if name not in older.schemas:
            yield f"events/{name}: is new"
        else:
            yield from (f"events/{name}: {line}" for line in _schema_additions(older.schemas[name], schema, ""))


def _schema_additions(older: Mapping[str, Any], newer: Mapping[str, Any], path: str) -> Iterator[str]:
    had, has = older.get("properties", {}), newer.get("properties", {})
    for name in sorted(has):
        field = f"{path}.{name}".lstrip(".")
        if name not in had:
            yield f"{field}: is new"
        else:
            yield from _schema_additions(had[name], has[name], field)
    if older.get(OPEN):
        new = [value for value in newer.get("enum", ()) if value not in older.get("enum", ())]
        if new:
            yield f"{path}: enum: also {_listed(new)}"
    if isinstance(older.get("items"), dict) and isinstance(newer.get("items"), dict):
        yield from _schema_additions(older["items"], newer["items"], f"{path}[]")


def _topic_problems(older: Mapping[str, Any], newer: Mapping[str, Any]) -> Iterator[str]:
    for field in ("schema", "partition_key", "compatibility"):
        if older.get(field) != newer.get(field):
            yield f"{field}: was {older.get(field)}, is {newer.get(field)}; that is another topic"
    if newer.get("partitions", 0) < older.get("partitions", 0):
        yield f"partitions: were {older['partitions']}, are {newer.get('partitions')}; they only grow"


def _schema_problems(older: Mapping[str, Any], newer: Mapping[str, Any], path: str) -> Iterator[str]:
    at = path or "the event"
    yield from _field_problems(older, newer, path)
    yield from _enum_problems(older, newer, at)
    was, now = _types(older), _types(newer)
    if now < was:
        yield f"{at}: type: no longer {_listed(was - now)}, which events that lie in the topic have"
    elif was < now:
        yield f"{at}: type: also {_listed(now - was)}, which readers of before do not expect"
    elif was != now:
        yield f"{at}: type: was {_listed(was)}, is {_listed(now)}"
    if "items" in older and "items" in newer:
        yield from _schema_problems(older["items"], newer["items"], f"{path}[]")
    elif older.get("items") != newer.get("items"):
        yield f"{at}: items: was {older.get('items')}, is {newer.get('items')}"
    for keyword in sorted({*older, *newer} - _IN_WORDS - _JUDGED):
        if older.get(keyword) != newer.get(keyword):
            yield f"{at}: {keyword}: was {older.get(keyword)}, is {newer.get(keyword)}"


def _field_problems(older: Mapping[str, Any], newer: Mapping[str, Any], path: str) -> Iterator[str]:
    had, has = older.get("properties", {}), newer.get("properties", {})
    asked, asks = set(older.get("required", ())), set(newer.get("required", ()))
    for name in sorted(had):
        field = f"{path}.{name}".lstrip(".")
        if name not in has:
            yield f"{field}: is gone or has another name; readers of before look for it"
            continue
        yield from _schema_problems(had[name], has[name], field)
    for name in sorted(asks - asked):
        yield f"{f'{path}.{name}'.lstrip('.')}: is required now; events that lie in the topic may lack it"
    for name in sorted((asked - asks) & set(has)):
        yield f"{f'{path}.{name}'.lstrip('.')}: is no longer required; readers of before rely on it"


def _enum_problems(older: Mapping[str, Any], newer: Mapping[str, Any], at: str) -> Iterator[str]:
    if ("enum" in older) != ("enum" in newer):
        yield f"{at}: enum: {'is new' if 'enum' in newer else 'is gone'}"
        return
    was, now = older.get("enum", []), newer.get("enum", [])
    gone, new = [value for value in was if value not in now], [value for value in now if value not in was]
    if gone:
        yield f"{at}: enum: no longer {_listed(gone)}, which events that lie in the topic have"
    if new and not older.get(OPEN):
        yield f"{at}: enum: also {_listed(new)}, and readers of before did not promise ({OPEN}) to accept others"
    if older.get(OPEN) and not newer.get(OPEN):
        yield f"{at}: {OPEN}: is gone; writers of before may say what is not listed"


def _types(schema: Mapping[str, Any]) -> set[str]:
    given = schema.get("type", [])
    return {given} if isinstance(given, str) else set(given)


def _listed(values: Any) -> str:
    return ", ".join(sorted(map(str, values))) or "anything"


def mapping(name: str, text: str) -> Mapping[str, Any]:
    """Read one file as what its name says it is: JSON or YAML.

    Raises:
        ValueError: it is neither, or holds no mapping; the message names it.
    """
    try:
        document = json.loads(text) if name.endswith(".json") else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{name}: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise ValueError(f"{name}: is no mapping")  # noqa: TRY004 - what a file holds, not what a caller passed
    return document
