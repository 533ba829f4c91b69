"""Whether clients of one release of the API are served by another, as their OpenAPI documents say.

What a client sends may only be taken more freely: a newer release accepts all that an older one accepted. What it reads
may only be promised more strictly, but for what is new beside it. Judged are the keywords that our document uses; any
other that differs counts as breaking, so that a new keyword is thought about before it is released.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any

from app.contracts.compatibility.events import OPEN
from app.contracts.compatibility.finding import Finding, Level

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")

_IN_WORDS = frozenset({"title", "description", "summary", "example", "examples", "$comment", "deprecated"})
_LOWER_BOUNDS = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER_BOUNDS = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_FORMS = ("pattern", "format")
_ALTERNATIVES = ("oneOf", "anyOf", "allOf")
_JUDGED = frozenset(
    {"$ref", "type", "enum", "properties", "required", "additionalProperties", "items", OPEN}
    | {*_LOWER_BOUNDS, *_UPPER_BOUNDS, *_FORMS, *_ALTERNATIVES}
)
_VERSION = re.compile(r"^/v([0-9]+)/")
_PLACE = re.compile(r"\{[^}]*\}")

Node = Mapping[str, Any]


class _Way(StrEnum):
    """Who writes what a schema describes."""

    REQUEST = "clients of before send"
    RESPONSE = "clients of before read"


def compare(older: Node, newer: Node) -> Iterator[Finding]:
    """Say every difference of two documents, a pointer each into the one that has what it is about."""
    return _Comparison(older, newer).findings()


class _Comparison:
    def __init__(self, older: Node, newer: Node) -> None:
        self._older = older
        self._newer = newer
        self._seen: set[tuple[str, str, _Way]] = set()

    def findings(self) -> Iterator[Finding]:
        older, newer = _operations(self._older), _operations(self._newer)
        for key in sorted({*older, *newer}):
            if key not in older:
                yield _finding(newer[key][0], Level.COMPATIBLE, "is new")
            elif key not in newer:
                yield self._gone(key, older[key], newer)
            else:
                yield from self._operation(older[key], newer[key])

    def _gone(self, key: tuple[str, str], operation: tuple[str, Node], newer: Mapping[tuple[str, str], Any]) -> Finding:
        at, document = operation
        later = [path for path, method in newer if method == key[1] and _is_later_version(path, key[0])]
        if document.get("deprecated") and later:
            return _finding(at, Level.READERS, f"is gone, was deprecated, and goes on as {later[0]}")
        return _finding(
            at, Level.BREAKING, "is gone; an operation is deprecated beside a later version of it before it goes"
        )

    def _operation(self, older: tuple[str, Node], newer: tuple[str, Node]) -> Iterator[Finding]:
        at, was = older
        _, now = newer
        yield from self._parameters(at, was, now)
        yield from self._request(f"{at}/requestBody", was.get("requestBody"), now.get("requestBody"))
        yield from self._responses(at, was.get("responses", {}), now.get("responses", {}))
        accepted = now.get("security", self._newer.get("security", []))
        for proof in was.get("security", self._older.get("security", [])) or [{}]:
            if not any(_suffices(proof, wanted) for wanted in accepted or [{}]):
                yield _finding(
                    f"{at}/security", Level.BREAKING, f"asks for {_listed(accepted)}, not {_listed([proof])}"
                )

    def _parameters(self, at: str, was: Node, now: Node) -> Iterator[Finding]:
        older, newer = self._by_name(self._older, was), self._by_name(self._newer, now)
        for key in sorted({*older, *newer}):
            place = f"{at}/parameters/{key[0]}/{_escape(key[1])}"
            if key not in newer:
                yield _finding(place, Level.BREAKING, "is gone; clients of before rely on what it does")
            elif key not in older:
                required = newer[key].get("required")
                text = "is new and required; clients of before do not send it" if required else "is new"
                yield _finding(place, Level.BREAKING if required else Level.COMPATIBLE, text)
            else:
                if newer[key].get("required") and not older[key].get("required"):
                    yield _finding(place, Level.BREAKING, "is required now; clients of before may not send it")
                elif older[key].get("required") and not newer[key].get("required"):
                    yield _finding(place, Level.COMPATIBLE, "is no longer required")
                yield from self._schema(
                    f"{place}/schema", older[key].get("schema", {}), newer[key].get("schema", {}), _Way.REQUEST
                )

    def _by_name(self, document: Node, operation: Node) -> dict[tuple[str, str], Node]:
        found: dict[tuple[str, str], Node] = {}
        for parameter in operation.get("parameters", ()):
            resolved = _resolve(document, parameter)
            # A place in the path has no name for clients, and a header's name no case.
            places = sum(1 for where, _ in found if where == "path")
            name = str(places) if resolved["in"] == "path" else str(resolved["name"]).lower()
            found[resolved["in"], name] = resolved
        return found

    def _request(self, at: str, was: Node | None, now: Node | None) -> Iterator[Finding]:
        older, newer = _resolve(self._older, was or {}), _resolve(self._newer, now or {})
        if newer.get("required") and not older.get("required"):
            yield _finding(f"{at}/required", Level.BREAKING, "a body is required now")
        yield from self._contents(f"{at}/content", older.get("content", {}), newer.get("content", {}), _Way.REQUEST)

    def _responses(self, at: str, was: Node, now: Node) -> Iterator[Finding]:
        for status in sorted({*was, *now}):
            place, succeeds = f"{at}/responses/{status}", str(status).startswith("2")
            if status not in now:
                text = "is gone; clients of before wait for it" if succeeds else "is gone"
                yield _finding(place, Level.BREAKING if succeeds else Level.COMPATIBLE, text)
            elif status not in was:
                text = "is another success than clients of before know" if succeeds else "is a refusal that is new"
                yield _finding(place, Level.BREAKING if succeeds else Level.READERS, text)
            else:
                yield from self._response(place, _resolve(self._older, was[status]), _resolve(self._newer, now[status]))

    def _response(self, at: str, was: Node, now: Node) -> Iterator[Finding]:
        had, has = was.get("headers", {}), now.get("headers", {})
        for name in sorted({*had, *has}):
            place = f"{at}/headers/{_escape(name)}"
            if name not in has:
                yield _finding(place, Level.BREAKING, "is gone; clients of before read it")
            elif name not in had:
                yield _finding(place, Level.READERS, "is new")
            else:
                older, newer = _resolve(self._older, had[name]), _resolve(self._newer, has[name])
                yield from self._schema(
                    f"{place}/schema", older.get("schema", {}), newer.get("schema", {}), _Way.RESPONSE
                )
        yield from self._contents(f"{at}/content", was.get("content", {}), now.get("content", {}), _Way.RESPONSE)

    def _contents(self, at: str, was: Node, now: Node, way: _Way) -> Iterator[Finding]:
        for media_type in sorted({*was, *now}):
            place = f"{at}/{_escape(media_type)}"
            if media_type not in now:
                yield _finding(place, Level.BREAKING, f"is gone, which {way}")
            elif media_type not in was:
                yield _finding(place, Level.COMPATIBLE if way is _Way.REQUEST else Level.READERS, "is new")
            else:
                older, newer = was[media_type].get("schema", {}), now[media_type].get("schema", {})
                yield from self._schema(f"{place}/schema", older, newer, way)

    def _schema(self, at: str, was: Node, now: Node, way: _Way) -> Iterator[Finding]:
        if "$ref" in was and was.get("$ref") == now.get("$ref"):
            # What many operations share is told once, where it is written.
            at = str(was["$ref"]).removeprefix("#")
        key = (str(was.get("$ref", at)), str(now.get("$ref", at)), way)
        if key in self._seen:
            return
        self._seen.add(key)
        older, newer = _resolve(self._older, was), _resolve(self._newer, now)
        yield from _types(at, older, newer, way)
        yield from _enumeration(at, older, newer, way)
        yield from self._properties(at, older, newer, way)
        yield from _limits(at, older, newer, way)
        for keyword in _ALTERNATIVES:
            yield from self._alternatives(f"{at}/{keyword}", older.get(keyword, []), newer.get(keyword, []), way)
        if "items" in older and "items" in newer:
            yield from self._schema(f"{at}/items", older["items"], newer["items"], way)
        elif ("items" in newer) == (way is _Way.REQUEST) and ("items" in older or "items" in newer):
            yield _finding(f"{at}/items", Level.BREAKING, "is new" if "items" in newer else "is gone")
        for keyword in sorted({*older, *newer} - _JUDGED - _IN_WORDS):
            if older.get(keyword) != newer.get(keyword):
                text = f"was {older.get(keyword)}, is {newer.get(keyword)}"
                yield _finding(f"{at}/{_escape(keyword)}", Level.BREAKING, text)

    def _alternatives(self, at: str, was: Sequence[Node], now: Sequence[Node], way: _Way) -> Iterator[Finding]:
        if len(was) != len(now):
            yield _finding(at, Level.BREAKING, f"had {len(was)} alternatives, has {len(now)}")
            return
        for number, (older, newer) in enumerate(zip(was, now, strict=True)):
            yield from self._schema(f"{at}/{number}", older, newer, way)

    def _properties(self, at: str, was: Node, now: Node, way: _Way) -> Iterator[Finding]:
        had, has = was.get("properties", {}), now.get("properties", {})
        asked, asks = set(was.get("required", ())), set(now.get("required", ()))
        for name in sorted({*had, *has}):
            place = f"{at}/properties/{_escape(name)}"
            if name not in has:
                yield _finding(place, Level.BREAKING, f"is gone or has another name, which {way}")
            elif name not in had:
                if way is _Way.RESPONSE:
                    yield _finding(place, Level.READERS, "is new")
                elif name not in asks:
                    yield _finding(place, Level.COMPATIBLE, "is new")
            else:
                yield from self._schema(place, had[name], has[name], way)
        newly, no_longer = sorted(asks - asked), sorted((asked - asks) & set(has))
        for name in newly:
            breaks = way is _Way.REQUEST
            text = "is required now; clients of before may not send it" if breaks else "is always there now"
            yield _finding(f"{at}/required/{_escape(name)}", Level.BREAKING if breaks else Level.COMPATIBLE, text)
        for name in no_longer:
            breaks = way is _Way.RESPONSE
            text = "may be missing now; clients of before rely on it" if breaks else "is no longer required"
            yield _finding(f"{at}/required/{_escape(name)}", Level.BREAKING if breaks else Level.COMPATIBLE, text)
        yield from self._further_properties(f"{at}/additionalProperties", was, now, way)

    def _further_properties(self, at: str, was: Node, now: Node, way: _Way) -> Iterator[Finding]:
        older, newer = was.get("additionalProperties", True), now.get("additionalProperties", True)
        if isinstance(older, Mapping) and isinstance(newer, Mapping):
            yield from self._schema(at, older, newer, way)
        elif older != newer:
            opened = newer is True or older is False
            breaks = opened is (way is _Way.RESPONSE)
            level = Level.BREAKING if breaks and way is _Way.REQUEST else Level.READERS if breaks else Level.COMPATIBLE
            yield _finding(at, level, f"was {_shown(older)}, is {_shown(newer)}")


def _types(at: str, was: Node, now: Node, way: _Way) -> Iterator[Finding]:
    older, newer = _type_set(was), _type_set(now)
    if older == newer:
        return
    # No type is any type.
    narrower = bool(newer) and (not older or newer < older)
    wider = bool(older) and (not newer or older < newer)
    fits = wider if way is _Way.REQUEST else narrower
    text = f"was {_words(older)}, is {_words(newer)}"
    yield _finding(f"{at}/type", Level.COMPATIBLE if fits else Level.BREAKING, text)


def _enumeration(at: str, was: Node, now: Node, way: _Way) -> Iterator[Finding]:
    place = f"{at}/enum"
    if ("enum" in was) != ("enum" in now):
        fits = ("enum" in now) is (way is _Way.RESPONSE)
        text = "is new" if "enum" in now else "is gone"
        yield _finding(place, Level.COMPATIBLE if fits else Level.BREAKING, text)
        return
    older, newer = was.get("enum", []), now.get("enum", [])
    gone, new = [value for value in older if value not in newer], [value for value in newer if value not in older]
    if gone:
        breaks = way is _Way.REQUEST
        yield _finding(place, Level.BREAKING if breaks else Level.COMPATIBLE, f"no longer {_words(gone)}")
    if new and way is _Way.REQUEST:
        yield _finding(place, Level.COMPATIBLE, f"also {_words(new)}")
    elif new:
        promised = bool(was.get(OPEN))
        text = f"also {_words(new)}" + (
            "" if promised else f", and clients of before did not promise ({OPEN}) to take others"
        )
        yield _finding(place, Level.READERS if promised else Level.BREAKING, text)


def _limits(at: str, was: Node, now: Node, way: _Way) -> Iterator[Finding]:
    for keyword in (*_LOWER_BOUNDS, *_UPPER_BOUNDS, *_FORMS):
        older, newer = was.get(keyword), now.get(keyword)
        if older == newer:
            continue
        if older is None or newer is None:
            tighter: bool | None = older is None
        elif keyword in _FORMS:
            tighter = None  # whether one form contains the other cannot be told
        else:
            tighter = (newer > older) is (keyword in _LOWER_BOUNDS)
        fits = tighter is not None and tighter is (way is _Way.RESPONSE)
        text = f"was {_shown(older)}, is {_shown(newer)}"
        yield _finding(f"{at}/{keyword}", Level.COMPATIBLE if fits else Level.BREAKING, text)


def _operations(document: Node) -> dict[tuple[str, str], tuple[str, Node]]:
    """Every operation with its pointer, by path without the names of its places, and method; parameters of the path go along."""
    found: dict[tuple[str, str], tuple[str, Node]] = {}
    for path, item in document.get("paths", {}).items():
        for method in METHODS:
            if method in item:
                operation = dict(item[method])
                operation["parameters"] = [*item.get("parameters", ()), *operation.get("parameters", ())]
                found[_PLACE.sub("{}", path), method] = (f"/paths/{_escape(path)}/{method}", operation)
    return found


def _is_later_version(path: str, than: str) -> bool:
    mine, other = _VERSION.match(path), _VERSION.match(than)
    return bool(mine and other and int(mine[1]) > int(other[1]) and path[mine.end() :] == than[other.end() :])


def _suffices(proof: Node, wanted: Node) -> bool:
    """Whether who was let in with `proof` is let in where `wanted` is asked for."""
    return all(scheme in proof and set(scopes) <= set(proof[scheme]) for scheme, scopes in wanted.items())


def _resolve(document: Node, node: Node) -> Node:
    while "$ref" in node:
        pointer = str(node["$ref"])
        node = document
        for part in pointer.removeprefix("#/").split("/"):
            node = node[part.replace("~1", "/").replace("~0", "~")]
    return node


def _finding(at: str, level: Level, text: str) -> Finding:
    return Finding("openapi", at, level, text)


def _type_set(schema: Node) -> set[str]:
    given = schema.get("type", [])
    return {given} if isinstance(given, str) else set(given)


def _words(values: Any) -> str:
    return ", ".join(sorted(map(str, values))) or "anything"


def _listed(proofs: Sequence[Node]) -> str:
    return (
        " or ".join(f"{name} {' '.join(scopes)}".strip() for proof in proofs for name, scopes in proof.items())
        or "nothing"
    )


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)


def _escape(part: str) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")
