"""Takes secrets out of texts, and finds those that are still there: two ways to look, so that one holds the other to account.

What is masked is written in the ways that programs write a value. What is looked for afterwards is decoded: base64 at every offset,
percent signs, entities, escapes, hexadecimal digits, and one within the other.
"""

from __future__ import annotations

import base64
import binascii
import html
import json
import re
import shlex
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

# A shorter run of base64 could be a word, and is not masked as one; it is found all the same.
LEAST_ENCODED = 8
# How often one way of writing is looked for within another.
NESTED = 2
_BASE64 = re.compile(rb"[A-Za-z0-9+/_=-]{12,}")
_BASE64_BLOCK = re.compile(rb"(?:[A-Za-z0-9+/]{40,}\r?\n\s*)+[A-Za-z0-9+/=]+")
_HEXADECIMAL = re.compile(rb"(?:[0-9A-Fa-f]{2}){6,}")
_ESCAPE = re.compile(rb"\\(?:u00|x)([0-9A-Fa-f]{2})")

# What nobody declared and yet looks like a secret. A template, a path and what is masked already are none.
_NONE = r"(?![\"']?(?:\{\{|/|\[masked|\$CREDENTIALS))"
_LIKELY = (
    (re.compile(r"-----BEGIN ([A-Z ]*)PRIVATE KEY-----.*?(?:-----END \1PRIVATE KEY-----|\Z)", re.DOTALL), "[masked private key]"),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"), "[masked token]"),
    (re.compile(r"SCRAM-SHA-\d+\$\d+:[\w+/=:$]+"), "[masked verifier]"),
    (re.compile(r"(://[^\s/:@\"']*:)(?!\[masked)[^\s/@\"']+@"), r"\1[masked]@"),
    (re.compile(rf"(?i)\b((?:bearer|basic)\s+){_NONE}[\w+/=.~-]{{8,}}"), r"\1[masked]"),
    (
        re.compile(
            rf"(?i)((?:password|passwd|passphrase|secret|token|api[_-]?key|authorization)[\"']?[ \t]*[=:][ \t]*)"
            rf"{_NONE}(\"[^\"\n]+\"|'[^'\n]+'|[^\s\"',;}}&]+)"
        ),
        r"\1[masked]",
    ),
)  # fmt: skip


def values_of(secrets: Mapping[str, str]) -> dict[str, str]:
    """Return values by name; a secret that is being rotated has two lines and each is one."""
    found: dict[str, str] = {}
    for name, value in secrets.items():
        lines = [line.strip() for line in str(value).splitlines() if line.strip()]
        found |= {name if number == 0 else f"{name} ({number + 1})": line for number, line in enumerate(lines)}
    return found


def forms(value: str) -> list[str]:
    """Return how programs write a value, the longest first."""
    raw = value.encode()
    quoted = urllib.parse.quote(value, safe="")
    found = {
        value,
        quoted,
        quoted.lower(),
        urllib.parse.quote(value),
        urllib.parse.quote_plus(value),
        html.escape(value),
        json.dumps(value)[1:-1],
        shlex.quote(value).strip("'"),
        raw.hex(),
        raw.hex().upper(),
    }
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + raw).decode()
        # Its first and its last signs may be those of other bytes, too.
        core = encoded[(0, 2, 3)[offset] : len(encoded) - (0, 3, 2)[(offset + len(raw)) % 3]]
        if len(core) >= LEAST_ENCODED:
            found |= {core, core.replace("+", "-").replace("/", "_")}
    return sorted(filter(None, found), key=len, reverse=True)


class Masker:
    """Masks declared secrets by their names, and what looks like one.

    Args:
        secrets: values by name.
    """

    def __init__(self, secrets: Mapping[str, str]) -> None:
        names = {form: name for name, value in values_of(secrets).items() for form in forms(value)}
        # What holds another one is masked first.
        self._names = sorted(names.items(), key=lambda one: len(one[0]), reverse=True)

    def masked(self, text: str) -> str:
        """Return the text without them."""
        for form, name in self._names:
            text = text.replace(form, f"[masked: {name}]")
        return likely_masked(text)


def likely_masked(text: str) -> str:
    """Return a text without what looks like a secret: keys, tokens, passwords beside their names."""
    for pattern, replacement in _LIKELY:
        text = pattern.sub(replacement, text)
    return text


def without_likely_secrets(value: Any) -> Any:
    """Return JSON values whose texts went through likely_masked."""
    if isinstance(value, str):
        return likely_masked(value)
    if isinstance(value, Mapping):
        return {name: without_likely_secrets(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_likely_secrets(one) for one in value]
    return value


def leaks(content: bytes, secrets: Mapping[str, str]) -> list[str]:
    """Name the secrets whose values are in a content, however they are written there."""
    wanted = {name: value.encode() for name, value in values_of(secrets).items()}
    found: set[str] = set()
    for view in _views(content, NESTED):
        found |= {name for name, value in wanted.items() if name not in found and value in view}
    return sorted(found)


def _views(content: bytes, depth: int) -> Iterator[bytes]:
    """Yield a content, and what its parts are when they are decoded, once and again."""
    yield content
    if depth:
        for one in {*_decoded(content)} - {b"", content}:
            yield from _views(one, depth - 1)


def _decoded(content: bytes) -> Iterator[bytes]:
    lines = content.split(b"\n")
    percent, entities, escapes = (b"\n".join(line for line in lines if sign in line) for sign in (b"%", b"&", b"\\"))
    yield urllib.parse.unquote_to_bytes(percent)
    yield urllib.parse.unquote_to_bytes(percent.replace(b"+", b" "))
    yield html.unescape(entities.decode(errors="replace")).encode()
    escaped = _ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), escapes)
    yield re.sub(rb"\\([\"'\\/])", rb"\1", escaped)
    yield b"\n".join(bytes.fromhex(run.decode()) for run in _HEXADECIMAL.findall(content))
    yield b"\n".join(_from_base64(_BASE64.findall(content)))
    # As mail and certificates have it: one value over several lines.
    yield b"\n".join(_from_base64(b"".join(block.split()) for block in _BASE64_BLOCK.findall(content)))


def _from_base64(runs: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what each run is, from each of the four places at which its groups may begin."""
    for run in runs:
        signs = run.replace(b"-", b"+").replace(b"_", b"/").replace(b"=", b"")
        for offset in range(4):
            part = signs[offset:]
            part = part[: len(part) - (len(part) % 4 == 1)]
            yield binascii.a2b_base64(part + b"=" * (-len(part) % 4))
