"""The pages, each from what was found for it. What could not be asked is said in its place: a page always comes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from app.adapters.http.monitoring import Series
from app.entrypoints.console.charts import FORMATS, chart
from app.entrypoints.console.dashboards import Dashboard, Panel
from app.entrypoints.console.markup import Child, Markup, badge, table, tag

RANGES: Mapping[str, timedelta] = {
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "6h": timedelta(hours=6),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
}
_GOOD = frozenset({"completed", "succeeded", "published", "accepted", "done", "started", "active", "up", "passed"})
_BAD = frozenset({"failed", "rejected", "fallout", "unknown", "critical", "firing", "down"})
_SECONDS_IN_DAY = 86400

Row = Mapping[str, Any]


def mood(state: str) -> str:
    """Return how a state is to be shown."""
    return "good" if state in _GOOD else "bad" if state in _BAD else "warn"


def moment(value: datetime | None) -> Markup:
    """Return a time of day in UTC, with its date."""
    if value is None:
        return tag("td", "-", class_="time")
    at = value.astimezone(UTC)
    return tag(
        "td", tag("time", f"{at:%Y-%m-%d %H:%M:%S}", datetime=at.isoformat(timespec="milliseconds")), class_="time"
    )


def since(milliseconds: float | None) -> datetime | None:
    """Return a time that was given in milliseconds since the epoch."""
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)


def _number(value: Child) -> Markup:
    return tag("td", value, class_="number")


def notice(problems: Sequence[str]) -> Markup:
    """Say what could not be asked."""
    return Markup("".join(tag("p", problem, class_="notice", role="status") for problem in problems))


def page(
    title: str,
    body: Child,
    *,
    environment: str,
    dashboards: Mapping[str, Dashboard],
    here: str,
    operator: str,
    at: datetime,
    refresh: int = 0,
) -> str:
    """Return a whole page.

    Args:
        title: heading, and of the window.
        body: what is below the heading.
        environment: name of the environment.
        dashboards: for the navigation.
        here: path of this page in the navigation.
        operator: who is logged in; nobody where it is empty.
        at: when the page was made.
        refresh: seconds after which the browser asks again; 0 for never.
    """
    places = [
        ("/", "Topology"),
        ("/alerts", "Alerts"),
        ("/orders", "Orders"),
        ("/processes", "Processes"),
        ("/search", "Logs and traces"),
    ]
    places += [(f"/dashboards/{name}", dashboard.title) for name, dashboard in dashboards.items()]
    links = [tag("a", text, href=path, aria_current="page" if path == here else None) for path, text in places]
    leave = tag("form", tag("button", f"Log out {operator}"), method="post", action="/logout")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="refresh", content=refresh) if refresh else None,
        tag("title", f"{title} - {environment} - CPQ/OMS"),
        tag("link", rel="stylesheet", href="/static/console.css"),
        tag("link", rel="icon", href="data:,"),
    )
    bar = tag(
        "header",
        tag(
            "div",
            tag("strong", "CPQ/OMS"),
            tag("span", environment, class_="environment"),
            leave if operator else None,
            class_="inner",
        ),
        tag("nav", links, aria_label="Pages") if operator else None,
    )
    content = tag("main", tag("h1", title), body, id="content")
    foot = tag(
        "footer",
        f"As of {at:%Y-%m-%d %H:%M:%S} UTC",
        f", anew every {refresh} s" if refresh else "",
        ". All times are UTC.",
    )
    skip = tag("a", "To the content", href="#content", class_="skip")
    return "<!doctype html>" + tag("html", head, tag("body", skip, bar, content, foot), lang="en")


def log_in(problem: str) -> Markup:
    """Return the form."""
    return tag(
        "form",
        tag("p", problem, class_="notice", role="alert") if problem else None,
        tag("div", tag("label", "Your name", for_="operator"), tag("input", id="operator", name="operator", type="text", required=True, maxlength=64, pattern=r"[A-Za-z0-9._@\-]+", autocomplete="username", autofocus=True)),
        tag("div", tag("label", "Password of the operators", for_="password"), tag("input", id="password", name="password", type="password", required=True, maxlength=200, autocomplete="current-password")),
        tag("button", "Log in"),
        method="post",
        action="/login",
        class_="login",
    )  # fmt: skip


def topology(found: Mapping[str, Sequence[Series]], smoke: Row | None, alerts: Sequence[Row] | None) -> Markup:
    """Return hosts with what runs on them.

    Args:
        found: by question: `hosts`, `units`, `releases`, `services`, `versions`, `smoke`, `processor`, `memory`.
        smoke: the newest run of the smoke test, if any.
        alerts: what is raised now; None where nobody could be asked.
    """
    releases = {
        (series.labels["host"], series.labels["unit"]): series.labels["release"]
        for series in found["releases"]
        if series.last
    }
    versions = {
        (series.labels["host"], series.labels["job"]): series.labels.get("short_version")
        or series.labels.get("redis_version", "")
        for series in found["versions"]
    }
    memory = {(s.labels["host"], s.labels["unit"]): s.last for s in found["memory"]}
    processor = {(s.labels["host"], s.labels["unit"]): s.last for s in found["processor"]}
    runs: dict[str, list[list[Child]]] = defaultdict(list)
    for series in sorted(found["units"], key=lambda one: one.labels["unit"]):
        host, unit = series.labels["host"], series.labels["unit"]
        state = "up" if series.last else "down"
        used = memory.get((host, unit))
        share = processor.get((host, unit))
        runs[host].append([
            tag("td", tag("code", f"cpq-oms-{unit}")), badge(state, mood(state)), tag("code", releases.get((host, unit), "-")),
            _number(FORMATS["share"](share) if share is not None else "-"), _number(FORMATS["bytes"](used) if used else "-"),
        ])  # fmt: skip
    for series in sorted(found["services"], key=lambda one: one.labels["name"]):
        host, name, state = series.labels["host"], series.labels["name"], series.labels["state"]
        job = {"redis-server": "redis"}.get(
            name.removesuffix(".service"), name.partition("@")[0].removesuffix(".service")
        )
        runs[host].append([
            tag("td", tag("code", name.removesuffix(".service"))), badge(state, mood(state)),
            tag("code", versions.get((host, job), "")), _number(""), _number(""),
        ])  # fmt: skip
    down = sum(1 for kind in ("hosts", "units") for series in found[kind] if not series.last)
    last = next((f"{series.last:.0f}" for series in found["smoke"]), "")
    told = {"1": "passed", "0": "failed"}.get(last, "none yet") if not smoke else smoke["outcome"]
    cards = tag(
        "div",
        _card("Hosts", str(len(found["hosts"])), ""),
        _card("Units", str(len(found["units"])), ""),
        _card("Do not answer", str(down), "bad" if down else "good"),
        _card("Alerts", "?" if alerts is None else str(len(alerts)), "bad" if alerts else "good"),
        _card("Releases that run", str(len(set(releases.values()))), "warn" if len(set(releases.values())) > 1 else ""),
        _card("Last smoke test", told, mood(told) if told != "none yet" else "quiet"),
        class_="cards",
    )
    hosts = []
    for series in sorted(found["hosts"], key=lambda one: one.labels["host"]):
        host = series.labels["host"]
        state = "up" if series.last else "down"
        heading = tag(
            "h2",
            host,
            " ",
            badge(state, mood(state)),
            " ",
            tag("span", series.labels["tier"].replace(",", ", "), class_="quiet"),
        )
        hosts.append(
            tag(
                "section",
                heading,
                table(
                    f"What runs on {host}", ("unit", "state", "release or version", "processor", "memory"), runs[host]
                ),
            )
        )
    return tag("div", cards, hosts or tag("p", "Prometheus knows no host yet.", class_="quiet"))


def _card(label: str, value: str, how: str) -> Markup:
    return tag(
        "div",
        tag("b", tag("span", value, class_=f"badge {how}") if how else value),
        tag("span", label, class_="label"),
        class_="card",
    )


def dashboard(
    about: Dashboard, panels: Sequence[tuple[Panel, Sequence[Series]]], chosen: str, start: float, end: float
) -> Markup:
    """Return the panels of a dashboard over a time."""
    links = [
        tag("a", name, href=f"/dashboards/{about.name}?range={name}", aria_current="true" if name == chosen else None)
        for name in RANGES
    ]
    figures = [chart(panel, series, start, end) for panel, series in panels]
    return tag(
        "div",
        tag("p", about.about, class_="about"),
        tag("p", "The last ", links, class_="ranges"),
        tag("div", figures, class_="panels"),
    )


def orders(recent: Sequence[Row], fallout: Sequence[Row], asked: str, problem: str) -> Markup:
    """Return the search for an order, the newest orders, and steps that wait for a person."""
    search = tag(
        "form",
        tag(
            "div",
            tag("label", "Order id", for_="id"),
            tag("input", id="id", name="id", type="search", value=asked, required=True),
        ),
        tag("button", "Show its timeline"),
        action="/orders",
        class_="search",
        role="search",
    )
    newest = [
        [
            _order_link(row),
            row["tenant_id"],
            badge(row["state"], mood(row["state"])),
            moment(row["created_at"]),
            moment(row["updated_at"]),
        ]
        for row in recent
    ]
    waiting = [
        [_order_link(row), row["tenant_id"], row["step"], row["error_code"], moment(row["opened_at"])]
        for row in fallout
    ]
    return tag(
        "div",
        tag("p", problem, class_="notice", role="alert") if problem else None,
        search,
        table("Steps that wait for a person", ("order", "tenant", "step", "error", "since"), waiting),
        table("Newest orders", ("order", "tenant", "state", "created", "changed"), newest),
    )


def _order_link(row: Row) -> Markup:
    return tag("a", tag("code", row["order_id"]), href=f"/orders/{row['order_id']}")


def order(about: Row, history: Sequence[Row], traces: Sequence[Row]) -> Markup:
    """Return the timeline of one order."""
    begun = history[0]["at"] if history else None
    rows = [
        [
            moment(row["at"]),
            _number(f"+{(row['at'] - begun).total_seconds():.3f} s"),
            badge(row["kind"], "bad" if row["kind"] == "fallout" else "quiet"),
            tag("td", tag("b", row["what"]), class_="wrap"),
            tag("td", _with_trace(row["detail"] or ""), class_="wrap"),
        ]
        for row in history
        if begun is not None
    ]
    cards = tag(
        "div",
        _card("Order", about["state"], mood(about["state"])),
        _card("Quote", about["quote_state"], mood(about["quote_state"])),
        _card("Workflow", about["workflow_state"] or "none", mood(about["workflow_state"] or "")),
        _card("Once", f"{about['total_one_time']:f} {about['currency']}", ""),
        _card("Each month", f"{about['total_recurring']:f} {about['currency']}", ""),
        class_="cards",
    )
    facts = tag(
        "p",
        f"Tenant {about['tenant_id']}, customer {about['customer_id']}, quote ",
        tag("code", about["quote_id"]),
        f", process {about['process_id'] or 'none'}, instance {about['process_instance_key'] or 'none'}. ",
        tag("a", "Logs and traces of this order", href=f"/search?q={about['order_id']}"),
        class_="about",
    )
    return tag(
        "div", cards, facts, table("Timeline", ("time", "after", "what", "happened", "detail"), rows), _traces(traces)
    )


def _with_trace(detail: str) -> Child:
    before, word, rest = detail.partition("trace ")
    trace = rest[:32]
    if not word or len(trace) != 32 or not trace.isalnum():  # noqa: PLR2004 - hexadecimal digits of a trace id
        return detail
    return [before, "trace ", tag("a", tag("code", trace), href=f"/search?q={trace}"), rest[32:]]


def _traces(found: Sequence[Row]) -> Markup:
    rows = [
        [tag("a", tag("code", row["trace"]), href=f"/search?q={row['trace']}"), moment(since(row["started"] / 1e6)), _number(row["spans"]), badge("failed", "bad") if row["failed"] else badge("done", "good"), tag("td", row["units"], class_="wrap")]
        for row in found
    ]  # fmt: skip
    return table("Traces", ("trace", "began", "spans", "ended", "units"), rows, "No trace of it is kept.")


def processes(
    versions: Sequence[Row], jobs: Sequence[Row], incidents: Sequence[Row], read_at: datetime | None
) -> Markup:
    """Return what the engine exported: instances by version, jobs by type, incidents."""
    about = (
        "Nothing was read yet."
        if read_at is None
        else f"Read from the engine's exported records up to {read_at:%H:%M:%S} UTC."
    )
    return tag(
        "div",
        tag("p", about, class_="about"),
        table(
            "Process instances by version",
            ("process", "version", "active", "oldest active", "completed", "terminated", "open incidents"),
            [
                [row["process"], _number(row["version"]), _number(row["active"]), moment(since(row["oldest"])), _number(row["completed"]), _number(row["terminated"]), _number(badge(str(row["incidents"]), "bad") if row["incidents"] else 0)]
                for row in versions
            ],
        ),
        table(
            "Open jobs by type",
            ("job type", "wait for a worker", "oldest since", "taken", "without retries left"),
            [
                [tag("code", row["type"]), _number(row["waiting"]), moment(since(row["oldest"])), _number(row["taken"]), _number(badge(str(row["exhausted"]), "bad") if row["exhausted"] else 0)]
                for row in jobs
            ],
        ),
        table(
            "Open incidents",
            ("since", "process", "instance", "element", "message"),
            [[moment(since(row["created"])), row["process"], _number(row["instance"]), row["element"], tag("td", row["message"], class_="wrap")] for row in incidents],
        ),
    )  # fmt: skip


def alerts(raised: Sequence[Row] | None, history: Sequence[Row]) -> Markup:
    """Return what is raised now, from Alertmanager, and what it told before."""
    now = [
        [
            badge(alert["labels"].get("severity", ""), "bad" if alert["labels"].get("severity") == "critical" else "warn"),
            tag("b", alert["labels"].get("alertname", "")),
            tag("td", alert["annotations"].get("summary", ""), " ", tag("span", alert["annotations"].get("description", ""), class_="quiet"), class_="wrap"),
            _dashboard_link(alert["labels"].get("dashboard", "")),
            tag("td", str(alert["startsAt"])[:19].replace("T", " "), class_="time"),
            alert["status"]["state"],
        ]
        for alert in raised or ()
    ]  # fmt: skip
    before = [
        [moment(since(row["received"])), badge(row["status"], "bad" if row["status"] == "firing" else "good"), tag("b", row["name"]), tag("td", row["summary"], class_="wrap")]
        for row in history
    ]  # fmt: skip
    heads = ("severity", "alert", "what", "dashboard", "since", "state")
    return tag(
        "div",
        table("Raised now", heads, now, "Nothing is raised."),
        table(
            "Raised and resolved before", ("received", "status", "alert", "what"), before, "Nothing was received yet."
        ),
    )


def _dashboard_link(name: str) -> Child:
    return "" if name in {"", "platform"} else tag("a", name, href=f"/dashboards/{name}")


def search(
    asked: str, lines: Sequence[Row] | None, spans: Sequence[Row], traces: Sequence[Row], problem: str
) -> Markup:
    """Return the search and what it found in journals and traces."""
    form = tag(
        "form",
        tag("div", tag("label", "Order id, quote id, request id or trace id", for_="q"), tag("input", id="q", name="q", type="search", value=asked, required=True)),
        tag("button", "Search"),
        action="/search",
        class_="search",
        role="search",
    )  # fmt: skip
    trouble = tag("p", problem, class_="notice", role="alert") if problem else None
    if lines is None:
        return tag("div", trouble, form)
    rows = [
        [
            moment(since(int(line["__REALTIME_TIMESTAMP"]) / 1000)),
            str(line.get("_HOSTNAME", "")),
            tag("code", str(line.get("_SYSTEMD_UNIT", "")).removesuffix(".service")),
            tag("td", tag("code", str(line.get("MESSAGE", ""))), class_="wrap"),
        ]
        for line in lines
    ]
    found = _traces(traces) if traces else None
    return tag(
        "div",
        trouble,
        form,
        _spans(spans) if spans else found,
        table("Lines of the journals", ("time", "host", "unit", "line"), rows),
    )


def _spans(spans: Sequence[Row]) -> Markup:
    begun = min(span["started"] for span in spans)
    end = max(span["started"] + span["nanoseconds"] for span in spans)
    whole = max(1, end - begun)
    width = 300.0
    rows = []
    for span in spans:
        bar = tag(
            "svg",
            tag(
                "rect",
                x=f"{width * (span['started'] - begun) / whole:.1f}",
                width=f"{max(2.0, width * span['nanoseconds'] / whole):.1f}",
                y=2,
                height=10,
                rx=2,
                class_="dot c6" if span["failed"] else "dot c0",
            ),
            viewBox=f"0 0 {width:.0f} 14",
            aria_hidden="true",
        )
        rows.append([
            tag("td", span["name"], " ", badge("failed", "bad") if span["failed"] else ""), tag("code", span["unit"]),
            _number(f"+{(span['started'] - begun) / 1e6:.1f} ms"), _number(f"{span['nanoseconds'] / 1e6:.1f} ms"), bar,
        ])  # fmt: skip
    return table(f"Trace {spans[0]['trace']}", ("span", "unit", "began", "took", "when"), rows)
