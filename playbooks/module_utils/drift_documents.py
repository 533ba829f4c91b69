"""The report of a comparison: as text for a terminal, and as one page that needs nothing else."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

COLUMNS = ("host", "plane", "item", "expected", "found", "remedy")
STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;margin:2rem;max-width:110rem;color:#1b1f24;background:#fff}"
    "h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}table{border-collapse:collapse;width:100%}"
    "td,th{border-bottom:1px solid #d5d9de;padding:.4rem .7rem;text-align:left;vertical-align:top;overflow-wrap:anywhere}"
    "th{background:#f2f4f6}td{font-family:ui-monospace,monospace;font-size:13px}"
    ".sound{color:#17692f}.differs{color:#a3220f}.unseen{color:#8a5a00}p.about{color:#59636e}"
)


def verdict(report: Mapping[str, Any]) -> str:
    """Return the report in one sentence."""
    what = f"{report['environment']} against {report['against']}" if report["against"] else report["environment"]
    return f"{what}: {len(report['findings'])} differences, {len(report['unseen'])} planes not seen"


def as_text(report: Mapping[str, Any]) -> str:
    """Return the report for a terminal."""
    lines = [verdict(report), *(f"  {line}" for line in _about(report))]
    for one in report["findings"]:
        lines += [
            f"  {one['host']}  {one['plane']}  {one['item']}",
            f"    expected  {one['expected']}",
            f"    found     {one['found']}",
            f"    remedy    {one['remedy']}",
        ]
    lines += [f"  NOT SEEN  {line}" for line in _unseen(report)]
    if report["tolerated"]:
        lines.append(f"  {len(report['tolerated'])} further differences are declared as tolerated; the page lists them")
    return "\n".join(lines) + "\n"


def as_html(report: Mapping[str, Any]) -> str:
    """Return the report as one page."""
    name = html.escape(verdict(report))
    state = "differs" if report["findings"] else "unseen" if report["unseen"] else "sound"
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'><title>{name}</title>",
        f"<style>{STYLE}</style><h1 class={state}>{name}</h1>",
        *(f"<p class=about>{html.escape(line)}" for line in _about(report)),
        "<h2>Differences</h2>",
        _table(COLUMNS, report["findings"]),
        "<h2>Planes that could not be seen</h2>",
        _list(_unseen(report)),
    ]
    if report["against"]:
        tolerated = [{**one, "reason": one["remedy"]} for one in report["tolerated"]]
        parts += ["<h2>Tolerated differences</h2>", _table((*COLUMNS[:-1], "reason"), tolerated)]
    parts += ["<h2>Planes that were compared</h2>", _list(report["planes"]), "</html>\n"]
    return "\n".join(parts)


def _unseen(report: Mapping[str, Any]) -> list[str]:
    """Name planes that were not seen for the same reason in one line."""
    planes: dict[tuple[str, str], list[str]] = {}
    for one in report["unseen"]:
        planes.setdefault((one["host"], one["reason"]), []).append(one["plane"])
    return [f"{host}  {', '.join(names)}: {reason}" for (host, reason), names in planes.items()]


def _about(report: Mapping[str, Any]) -> list[str]:
    about = [f"looked at on {report['taken_at']}, release {report['release_id']}"]
    return about + (
        [f"held to what was seen of {report['against']} on {report['against_taken_at']}"] if report["against"] else []
    )


def _table(columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> str:
    body = "".join("<tr>" + "".join(f"<td>{html.escape(row[name])}" for name in columns) for row in rows)
    head = "".join(f"<th>{name}" for name in columns)
    return f"<table><tr>{head}{body}</table>" if body else "<p class=sound>none"


def _list(lines: Iterable[str]) -> str:
    items = "".join(f"<li>{html.escape(line)}" for line in lines)
    return f"<ul>{items}</ul>" if items else "<p class=sound>none"
