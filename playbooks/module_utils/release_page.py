"""The page that a release leaves: one file that needs nothing else, made from the data of release_account alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2]))

from app.adapters.http.monitoring import Series
from app.entrypoints.console.charts import FORMATS, chart, name_of
from app.entrypoints.console.dashboards import Panel
from app.entrypoints.console.markup import Child, Markup, badge, table, tag

Json = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]
STYLE = (ROOT / "app/entrypoints/console/console.css").read_text(encoding="utf-8")
OWN_STYLE = """
pre { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 10px 12px; font-size: 12px; margin: 8px 0; }
details { margin: 8px 0; } summary { cursor: pointer; font-weight: 600; } h3 { font-size: 15px; margin: 16px 0 4px; }
.failure { border: 2px solid var(--bad); border-radius: 8px; background: var(--card); padding: 4px 16px 12px; margin: 14px 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 16px; margin: 10px 0; } dt { color: var(--quiet); } dd { margin: 0; overflow-wrap: anywhere; white-space: pre-wrap; }
ul.contents { display: flex; flex-wrap: wrap; gap: 2px 16px; list-style: none; padding: 0; margin: 0 0 12px; }
.bar.ok, .bar.changed { fill: var(--good); } .bar.ok { opacity: .45; } .bar.failed, .bar.unreachable { fill: var(--bad); } .bar.skipped { fill: var(--line); }
@media print { details::details-content { content-visibility: visible; block-size: auto; } header { color: #000; background: none; } .skip, ul.contents { display: none; } details { display: block; } .scroll, pre { overflow: visible; } pre { white-space: pre-wrap; }
  figure, tr { break-inside: avoid; } .panels { display: block; } }
"""
MOODS = {
    "succeeded": "good",
    "passed": "good",
    "possible": "good",
    "changed": "good",
    "ok": "quiet",
    "skipped": "quiet",
    "not installed yet": "quiet",
    "failed": "bad",
    "unreachable": "bad",
    "roll-forward only": "bad",
    "interrupted": "bad",
}
PHASES = {"before": "Pre-checks", "window": "Monitoring window", "after": "Post-checks"}
# More than that of one step's evidence is left to report.json.
MOST_EVIDENCE = 20_000
NOTHING = "-"
_WIDTH, _NAMES, _ROW, _HEAD = 1000.0, 300.0, 20.0, 24.0
_TICKS = 5


def page(run: Json) -> str:
    """Return a run as one HTML file.

    Args:
        run: as Account.document gives it.
    """
    title = f"{'Rollback' if run['kind'] == 'rollback' else 'Release'} {run['release_id'] or '(no bundle)'}"
    parts = [
        ("overview", "Overview", _overview(run)),
        ("plan", "Plan", _plan(run)),
        ("way-back", "Way back", _way_back(run)),
        ("steps", "Steps", _steps(run)),
        ("checks", "Checks", _checks(run)),
        ("proof", "Proof by an order", _proof(run)),
        ("figures", "Figures before and after", _figures(run)),
        ("changes", "What was changed", _changes(run)),
        ("hosts", "What hosts run", _hosts(run)),
        ("record", "Record and evidence", _record(run)),
        ("drift", "Drift", _drift(run)),
        ("logs", "Logs", _logs(run)),
    ]
    contents = tag("ul", [tag("li", tag("a", name, href=f"#{key}")) for key, name, _ in parts], class_="contents")
    body = tag(
        "body",
        tag("a", "Skip to content", href="#content", class_="skip"),
        tag(
            "header",
            tag("div", tag("strong", title), tag("span", run["environment"], class_="environment"), class_="inner"),
            tag("nav", contents, aria_label="Sections"),
        ),
        tag(
            "main",
            tag("h1", title, " ", _badge(run["result"])),
            tag("p", f"{run['environment']}, by {run['operator']}, {_clock(run['began'])}", class_="about"),
            _failure(run),
            [tag("section", tag("h2", name, id=key), content) for key, name, content in parts],
            id="content",
        ),
        tag("footer", f"Run {run['run']}. The same as data: report.json beside this page."),
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{title} {run['result']}: {run['environment']}"),
        tag("style", Markup(STYLE + OWN_STYLE)),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _failure(run: Json) -> Child:
    failure = run["failure"]
    if not failure:
        return None
    said: list[tuple[str, Child]] = [
        ("Step", f"{failure['step'] or NOTHING}: {failure['play'] or NOTHING}"),
        ("Host", failure["host"] or NOTHING),
        ("Task", failure["task"] or NOTHING),
        ("Reason", failure["message"]),
        *((f"Rule {one['rule']}", one["what"]) for one in failure["rules"]),
        ("What had to hold", failure["gate"] or NOTHING),
        ("Remedy", failure["remedy"]),
        ("What still runs", _running(run["hosts"])),
    ]
    if run["support"]["file"]:
        said.append(("Support bundle", tag("a", run["support"]["file"], href=run["support"]["file"])))
    elif run["support"]["problem"]:
        said.append(("Support bundle", f"was not written: {run['support']['problem']}"))
    return tag(
        "section",
        tag("h2", "It was ended" if run["result"] == "interrupted" else "It failed", id="failure"),
        _terms(said),
        tag("h3", "What followed") if failure["followed_by"] else None,
        tag("ul", [tag("li", f"{one['host']}: {one['task']}: {one['message']}") for one in failure["followed_by"]])
        if failure["followed_by"]
        else None,
        class_="failure",
        role="alert",
    )


def _running(hosts: Sequence[Json]) -> str:
    """Say in lines which release each unit runs where, as far as the run has seen it."""
    units: dict[tuple[str, str], list[str]] = {}
    for one in hosts:
        word = "either release" if one["is_in_between"] else one["after"] or "nothing"
        word += f" ({'; '.join(one['not_running'])})" if one["not_running"] else ""
        units.setdefault((one["unit"], word), []).append(one["host"])
    lines = [f"{unit}: {word} on {', '.join(names)}" for (unit, word), names in sorted(units.items())]
    return "\n".join(lines) or "no host was looked at"


def _overview(run: Json) -> Child:
    return _terms(
        [
            ("Release", run["release_id"] or NOTHING),
            ("Bundle", run["bundle"] or NOTHING),
            ("SHA-256 of its manifest", tag("code", run["bundle_sha256"] or NOTHING)),
            ("Environment", run["environment"]),
            ("Operator", run["operator"]),
            ("Control machine", run["control_machine"] or NOTHING),
            ("Began", run["began"]),
            ("Ended", run["ended"]),
            ("Took", _took(run["began"], run["ended"])),
            ("Result", _badge(run["result"])),
            ("In the journal", run["journal_run"] or "it was not opened"),
            ("Goes on with an earlier run", "yes" if run["resumed"] else "no"),
        ]
    )


def _plan(run: Json) -> Child:
    if not run["plan"]["text"]:
        return tag("p", "No plan was made: nothing was to change, or it ended before.", class_="quiet")
    return tag("details", tag("summary", "As it was printed"), tag("pre", run["plan"]["text"], tabindex=0), open=True)


def _way_back(run: Json) -> Child:
    verdict = run["plan"]["verdict"]
    parts: list[Child] = []
    if verdict:
        parts.append(tag("p", "Once this release is out, the way back is: ", _badge(str(verdict["way"]))))
        rows = [
            [_badge(str(one["way"])), one["because"], one.get("ask") or NOTHING, one.get("answer") or NOTHING]
            for one in verdict["grounds"]
        ]
        parts.append(table("Grounds", ("way", "because", "to be asked", "answer"), rows))
        parts.append(_terms([(key, value) for key, value in run["plan"]["template"].items()]))
    if run["way_back"]["text"]:
        parts.append(tag("h3", "What live data said before this rollback"))
        parts.append(tag("pre", run["way_back"]["text"], tabindex=0))
    return parts or tag("p", "No verdict was asked for.", class_="quiet")


def _steps(run: Json) -> Child:
    steps = run["steps"]
    rows = [
        [
            one["step"] or NOTHING,
            one["play"],
            ", ".join(one["hosts"]),
            _clock(one["began"]),
            tag("td", _seconds(one["seconds"]), class_="number"),
            _badge(one["outcome"]),
            one["gate"] or NOTHING,
        ]
        for one in steps
    ]
    heads = ("step", "does", "hosts", "began", "took", "outcome", "what had to hold")
    tasks = [
        [one["step"] or NOTHING, task["task"], task["host"], _seconds(task["seconds"]), _badge(task["outcome"])]
        for one in steps
        for task in one["tasks"]
    ]
    folded = tag(
        "details",
        tag("summary", "Tasks that changed something or failed"),
        table("Tasks", ("step", "task", "host", "took", "outcome"), tasks),
    )
    return [_timeline(run), table("Steps in their order", heads, rows, "No step was taken."), folded]


def _timeline(run: Json) -> Child:
    """Draw each step as a bar from its begin to its end."""
    steps = run["steps"]
    if not steps:
        return None
    start = datetime.fromisoformat(run["began"]).timestamp()
    length = max(1.0, datetime.fromisoformat(run["ended"]).timestamp() - start)
    height = _HEAD + _ROW * len(steps) + 6

    def x(seconds: float) -> float:
        return _NAMES + (_WIDTH - _NAMES - 60) * max(0.0, min(1.0, seconds / length))

    drawn: list[Markup] = []
    for tick in range(_TICKS + 1):
        at = length * tick / _TICKS
        drawn.append(tag("line", x1=f"{x(at):.1f}", x2=f"{x(at):.1f}", y1=_HEAD - 6, y2=height, class_="grid"))
        drawn.append(tag("text", _seconds(at), x=f"{x(at):.1f}", y=12, text_anchor="middle"))
    for number, one in enumerate(steps):
        began = datetime.fromisoformat(one["began"]).timestamp() - start
        left, right, top = x(began), x(began + one["seconds"]), _HEAD + _ROW * number
        name = f"{one['step'] or one['play']} ({_few(one['hosts'])})"
        drawn += [
            tag("text", name, x=_NAMES - 8, y=f"{top + 14:.1f}", text_anchor="end"),
            tag(
                "rect",
                tag("title", f"{one['play']}: {one['outcome']}, {_seconds(one['seconds'])}"),
                x=f"{left:.1f}",
                y=f"{top + 3:.1f}",
                width=f"{max(2.0, right - left):.1f}",
                height=_ROW - 6,
                rx=2,
                class_=f"bar {one['outcome']}",
            ),
            tag("text", _seconds(one["seconds"]), x=f"{max(left + 2, right) + 5:.1f}", y=f"{top + 14:.1f}"),
        ]
    told = "Steps over time: " + "; ".join(f"{one['step'] or one['play']} {_seconds(one['seconds'])}" for one in steps)
    picture = tag("svg", drawn, viewBox=f"0 0 {_WIDTH:.0f} {height:.0f}", role="img", aria_label=told)
    return tag("figure", tag("figcaption", "Steps over time"), picture)


def _checks(run: Json) -> Child:
    found: list[Child] = []
    for phase, title in PHASES.items():
        rows = [
            [one["name"], _badge(one["verdict"]), one["measured"], one["limit"], one.get("remedy") or NOTHING]
            for one in run["checks"]
            if one["phase"] == phase
        ]
        found.append(table(title, ("check", "verdict", "measured", "limit", "remedy"), rows, "Not reached."))
    return found


def _proof(run: Json) -> Child:
    heads = ("step", "verdict", "took", "evidence")
    rows = [
        [
            str(one.get("step") or one.get("name") or NOTHING),
            _badge("passed" if one["passed"] else "failed"),
            _seconds(float(one.get("seconds") or 0)),
            tag("td", str(one.get("evidence") or NOTHING), class_="wrap"),
        ]
        for one in run["proof"]
    ]
    return table("Smoke test", heads, rows, "Not reached.")


def _figures(run: Json) -> Child:
    figures = run["figures"]
    both = _measured_both_times(run)
    if not figures or figures.get("unseen"):
        why = (figures or {}).get("unseen") or "nobody was asked"
        return [
            tag("p", f"No figures of Prometheus: {why}. What the checks measured themselves:", class_="notice"),
            both,
        ]
    start, began, end = figures["start"], figures["began"], figures["end"]
    drawn: list[Child] = []
    rows: list[list[Child]] = []
    for panel in figures["panels"]:
        found = [Series(one["labels"], [(at, float(value)) for at, value in one["values"]]) for one in panel["series"]]
        shown = Panel(title=panel["title"], unit=panel["unit"], query=panel["query"], legend=panel["legend"])
        drawn.append(chart(shown, found, start, end, marks=[(began, "begin")]))
        for series in found:
            before, after = (
                _mean(value for at, value in series.values if (at >= began) is late) for late in (False, True)
            )
            written = FORMATS[shown.unit]
            rows.append(
                [
                    shown.title,
                    name_of(series.labels, shown.legend),
                    *(tag("td", NOTHING if one is None else written(one), class_="number") for one in (before, after)),
                ]
            )
    heads = ("figure", "of", "mean before", "mean since it began")
    return [tag("div", drawn, class_="panels"), table("Before and after", heads, rows), both]


def _measured_both_times(run: Json) -> Child:
    measured: dict[str, dict[str, str]] = {}
    for one in run["checks"]:
        measured.setdefault(one["name"], {})[one["phase"]] = one["measured"]
    rows = [[name, found.get("before", NOTHING), found.get("after", NOTHING)] for name, found in measured.items()]
    return table("Measured by the checks", ("check", "before", "after"), rows, "Nothing was measured.")


def _changes(run: Json) -> Child:
    rows = [[tag("code", one["command"]), line] for one in run["changes"] for line in one["lines"]]
    return table("Changes that commands made", ("command", "change"), rows, "No command changed anything.")


def _hosts(run: Json) -> Child:
    rows = [
        [
            one["host"],
            one["unit"],
            one["before"] or "nothing",
            "either: look at the host" if one["is_in_between"] else one["after"] or "nothing",
            "; ".join(one["not_running"]) or NOTHING,
            "seen" if one["is_seen"] else "as the steps say",
        ]
        for one in run["hosts"]
    ]
    return table(
        "Units", ("host", "unit", "before", "after", "does not run", "how it is known"), rows, "No host was looked at."
    )


def _record(run: Json) -> Child:
    record = run["record"]
    rows = [
        [
            str(one["sequence"]),
            _clock(one["recordedAt"]),
            one["step"],
            _badge(one["state"]),
            one["host"] or NOTHING,
            one["before"] or NOTHING,
            one["after"] or NOTHING,
            one["operator"],
            tag("td", tag("code", one["evidenceHash"] or NOTHING), class_="wrap"),
        ]
        for one in record["entries"]
    ]
    heads = ("entry", "at", "step", "state", "host", "before", "after", "operator", "SHA-256 of the evidence")
    about = (
        "Every entry is sealed by the hash of the one before it; cpq-oms-admin release verify holds them to it."
        if record["is_whole"]
        else "The record could not be read again at the end: these are the entries that this run was told of, without their evidence."
    )
    shown = [
        tag("details", tag("summary", f"Evidence of {step}"), tag("pre", _cut(evidence), tabindex=0))
        for step, evidence in sorted(record["evidence"].items())
    ]
    return [tag("p", about, class_="about"), table("Entries", heads, rows, "Nothing was put on record."), shown]


def _drift(run: Json) -> Child:
    drift = run["drift"]
    if not drift:
        return tag("p", "It was not looked for since: make drift compares every host with its declaration.")
    columns = ("host", "plane", "item", "expected", "found", "remedy")
    rows = [[tag("td", one[name], class_="wrap") for name in columns] for one in drift["findings"]]
    unseen = [[one["host"], one["plane"], one["reason"]] for one in drift["unseen"]]
    return [
        tag("p", f"Looked at on {drift['taken_at']}, after this release.", class_="about"),
        table("Differences", columns, rows, "None."),
        table("Planes that could not be seen", ("host", "plane", "reason"), unseen, "None."),
    ]


def _logs(run: Json) -> Child:
    rows = [[one["host"], tag("td", tag("code", one["command"]), class_="wrap")] for one in run["logs"]]
    links = [tag("li", tag("a", one["name"], href=one["url"])) for one in run["console"]]
    return [
        table("Journals of this time", ("host", "command"), rows),
        tag("h3", "In the console") if links else None,
        tag("ul", links) if links else None,
        _terms(
            [
                ("This run in the terminal", tag("code", f"cpq-oms-admin release show {run['journal_run']}".strip())),
                ("Whether the record is whole", tag("code", "cpq-oms-admin release verify")),
            ]
        ),
    ]


def _terms(pairs: Iterable[tuple[str, Child]]) -> Markup:
    return tag("dl", [[tag("dt", term), tag("dd", said)] for term, said in pairs])


def _badge(word: str) -> Markup:
    return badge(word, MOODS.get(word, "warn"))


def _clock(at: str) -> str:
    """Return a time without its fraction."""
    return datetime.fromisoformat(at).strftime("%Y-%m-%d %H:%M:%S %Z")


def _took(began: str, ended: str) -> str:
    return _seconds((datetime.fromisoformat(ended) - datetime.fromisoformat(began)).total_seconds())


def _seconds(seconds: float) -> str:
    return FORMATS["seconds"](seconds)


def _few(names: Sequence[str]) -> str:
    """Name the first, and how many there are beside."""
    return ", ".join(names[:1]) + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _mean(values: Iterator[float]) -> float | None:
    found = [value for value in values if value == value]  # noqa: PLR0124 - Prometheus gives NaN, which no mean survives
    return sum(found) / len(found) if found else None


def _cut(evidence: Any) -> str:
    text = evidence if isinstance(evidence, str) else json.dumps(evidence, indent=1, ensure_ascii=False)
    if len(text) <= MOST_EVIDENCE:
        return text
    return f"{text[:MOST_EVIDENCE]}\n… the rest of {len(text)} characters is in report.json"


def written(folder: Path, run: Mapping[str, Any]) -> Path:
    """Write page and data into a folder, for their owner alone, each whole or not at all; return the page."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    document = dict(run)
    for name, text in (("report.json", json.dumps(document, indent=1) + "\n"), ("report.html", page(document))):
        partial = folder / f".{name}.partial"
        partial.touch(mode=0o600)
        partial.write_text(text, encoding="utf-8")
        partial.replace(folder / name)
    return folder / "report.html"


def told_of_drift(releases: Path, drift: Mapping[str, Any]) -> Path | None:
    """Add what was found of drift to the report of the newest run, and return its page; None where no run ended before.

    Args:
        releases: where each run has its folder.
        drift: as drift_report writes it: taken_at, findings, unseen.
    """
    newest = max(releases.glob("*/report.json"), key=lambda path: path.parent.name, default=None)
    if newest is None:
        return None
    run: Json = json.loads(newest.read_text(encoding="utf-8"))
    if datetime.fromisoformat(run["ended"]) > datetime.fromisoformat(drift["taken_at"]):
        return None
    return written(newest.parent, {**run, "drift": {name: drift[name] for name in ("taken_at", "findings", "unseen")}})
