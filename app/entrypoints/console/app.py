"""The console's URL map: pages for people who have logged in, and a plain check that it answers. Every look is logged with its operator.

Nothing here changes anything but the session: the console shows, operators act by commands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs
from uuid import UUID

import falcon
import falcon.asgi
from falcon.asgi import Request, Response

from app.adapters.files.journal import JournalUnreadableError
from app.adapters.http.monitoring import Monitoring, MonitoringUnavailableError, Series
from app.adapters.postgres.order_history import HistoryUnavailableError, OrderHistory
from app.adapters.sqlite.engine_store import EngineStore
from app.adapters.sqlite.intake_store import IntakeStore
from app.entrypoints.console import pages
from app.entrypoints.console.dashboards import Dashboard, Panel
from app.entrypoints.console.markup import Child
from app.entrypoints.console.sessions import COOKIE, Sessions, TooManyAttemptsError
from app.runtime.clock import Clock
from app.runtime.logging import get_logger
from app.runtime.metrics import ConsoleMetrics

log = get_logger(__name__)

SMOKE = "smoke run"
_MOST_BODY = 4096
_REFRESH = 30
_POINTS = 180
_SCRAPE_SECONDS = 15
_OPERATOR = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._@-")
_LONGEST_NAME, _LONGEST_SEARCH = 64, 64
_TRACE_DIGITS = 32
_HEADERS = {
    # No scripts at all, nothing from elsewhere, in nobody's frame.
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_TOPOLOGY = {
    "hosts": 'up{job="host"}',
    "units": 'up{job="unit"}',
    "releases": "cpq_unit_release == 1",
    "services": 'node_systemd_unit_state{name=~"(etcd|haproxy|kafka|keepalived|patroni|postgresql@.+|prometheus|prometheus-alertmanager|'
    'redis-server|zeebe)[.]service",state=~"active|failed"} == 1',
    "versions": "pg_static or redis_instance_info",
    "smoke": "cpq_smoke_passed",
    "processor": "rate(cpq_process_cpu_seconds_total[2m])",
    "memory": "cpq_process_resident_bytes",
}

JournalSearch = Callable[[str, str], Awaitable[Sequence[Mapping[str, Any]]]]


class ReadUpTo(Protocol):
    """Until when the engine's records have been read."""

    def __call__(self) -> datetime | None:
        """Return the time, or None where nothing was read since the start."""
        ...


@dataclass(frozen=True, slots=True)
class Sources:
    """What the pages are made from."""

    environment: str
    dashboards: Mapping[str, Dashboard]
    monitoring: Monitoring
    history: OrderHistory
    engine: EngineStore
    read_up_to: ReadUpTo
    intake: IntakeStore
    journal: JournalSearch
    clock: Clock
    secure: bool


class Guard:
    """Lets nobody in who has not logged in; writes down who looks at what."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def process_resource(self, req: Request, resp: Response, resource: object, params: dict[str, Any]) -> None:
        """Find the operator, or lead to the log-in."""
        for name, value in _HEADERS.items():
            resp.set_header(name, value)
        if isinstance(resource, LoginResource | StyleResource | HealthResource):
            return
        operator = self._sessions.operator(_session(req))
        if operator is None:
            raise falcon.HTTPSeeOther("/login")
        req.context.operator = operator

    async def process_response(self, req: Request, resp: Response, resource: object, req_succeeded: bool) -> None:
        """Write down who looked at what, and from where."""
        operator = getattr(req.context, "operator", None)
        if operator is not None:
            log.info(
                "access",
                operator=operator,
                address=req.remote_addr,
                path=req.path,
                query=req.query_string,
                status=resp.status_code,
            )


class _Page:
    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def _show(self, req: Request, resp: Response, title: str, body: Child, here: str, *, refresh: int = 0) -> None:
        resp.content_type = "text/html; charset=utf-8"
        resp.text = pages.page(
            title,
            body,
            environment=self._sources.environment,
            dashboards=self._sources.dashboards,
            here=here,
            operator=getattr(req.context, "operator", ""),
            at=self._sources.clock.now(),
            refresh=refresh,
        )


class LoginResource(_Page):
    """GET and POST /login. 401: wrong password; 429: too many attempts from this address."""

    def __init__(self, sources: Sources, sessions: Sessions, metrics: ConsoleMetrics) -> None:
        super().__init__(sources)
        self._sessions, self._metrics = sessions, metrics

    async def on_get(self, req: Request, resp: Response) -> None:
        """Show the form."""
        self._show(req, resp, "Log in", pages.log_in(""), "")

    async def on_post(self, req: Request, resp: Response) -> None:
        """Judge name and password."""
        given = await _form(req)
        operator = given.get("operator", "")
        if not operator or len(operator) > _LONGEST_NAME or set(operator) - _OPERATOR:
            resp.status = 422
            self._show(req, resp, "Log in", pages.log_in("The name has letters, digits and . _ @ - only."), "")
            return
        try:
            session = await asyncio.to_thread(
                self._sessions.log_in, operator, given.get("password", ""), req.remote_addr
            )
        except TooManyAttemptsError:
            self._tell(operator, req, "too many attempts")
            resp.status = 429
            resp.set_header("Retry-After", "60")
            self._show(req, resp, "Log in", pages.log_in("Too many attempts. Try again in a minute."), "")
            return
        if session is None:
            self._tell(operator, req, "refused")
            resp.status = 401
            self._show(req, resp, "Log in", pages.log_in("This is not the password."), "")
            return
        self._tell(operator, req, "accepted")
        resp.set_cookie(COOKIE, session, http_only=True, secure=self._sources.secure, same_site="Strict", path="/")
        raise falcon.HTTPSeeOther("/")

    def _tell(self, operator: str, req: Request, outcome: str) -> None:
        self._metrics.login(outcome)
        log.info("login", operator=operator, address=req.remote_addr, outcome=outcome)


class LogoutResource:
    """POST /logout."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def on_post(self, req: Request, resp: Response) -> None:
        """End the session."""
        self._sessions.log_out(_session(req))
        resp.unset_cookie(COOKIE, path="/")
        raise falcon.HTTPSeeOther("/login")


class StyleResource:
    """GET /static/console.css."""

    def __init__(self) -> None:
        self._text = Path(__file__).with_name("console.css").read_text(encoding="utf-8")

    async def on_get(self, req: Request, resp: Response) -> None:
        """Answer the style sheet."""
        resp.content_type = "text/css"
        resp.set_header("Cache-Control", "max-age=600")
        resp.text = self._text


class HealthResource:
    """GET /health/ready: it answers. What it asks may be away: then its pages say so."""

    async def on_get(self, req: Request, resp: Response) -> None:
        """Answer."""
        resp.media = {"status": "ready"}


class TopologyResource(_Page):
    """GET /."""

    async def on_get(self, req: Request, resp: Response) -> None:
        """Show hosts, units, releases, alerts and the last smoke test."""
        problems: list[str] = []
        sources = self._sources
        smoke, alerts, *answers = await asyncio.gather(
            _asked(sources.history.runs(SMOKE, 1), problems, "The database"),
            _asked(sources.monitoring.alerts(), problems, "Alertmanager"),
            *(_asked(sources.monitoring.now(query), problems, "Prometheus") for query in _TOPOLOGY.values()),
        )
        found = {name: answer or [] for name, answer in zip(_TOPOLOGY, answers, strict=True)}
        body = pages.topology(found, smoke[0] if smoke else None, alerts)
        self._show(req, resp, "Topology", [pages.notice(_once(problems)), body], "/", refresh=_REFRESH)


class DashboardResource(_Page):
    """GET /dashboards/{name}?range=1h. 404: no such dashboard."""

    async def on_get(self, req: Request, resp: Response, name: str) -> None:
        """Show its panels."""
        about = self._sources.dashboards.get(name)
        if about is None:
            raise falcon.HTTPNotFound
        chosen = req.get_param("range") or "1h"
        if chosen not in pages.RANGES:
            chosen = "1h"
        end = self._sources.clock.now().timestamp()
        start = end - pages.RANGES[chosen].total_seconds()
        step = max(_SCRAPE_SECONDS, round((end - start) / _POINTS))
        problems: list[str] = []

        async def asked(panel: Panel) -> tuple[Panel, Sequence[Series]]:
            question = self._sources.monitoring.over(panel.query, start, end, step)
            return panel, await _asked(question, problems, "Prometheus") or []

        panels = await asyncio.gather(*map(asked, about.panels))
        body = pages.dashboard(about, panels, chosen, start, end)
        self._show(
            req, resp, about.title, [pages.notice(_once(problems)), body], f"/dashboards/{name}", refresh=_REFRESH
        )


class OrdersResource(_Page):
    """GET /orders?id=: leads to the order's timeline, or shows the newest ones."""

    async def on_get(self, req: Request, resp: Response) -> None:
        """Show them."""
        asked, problem = (req.get_param("id") or "").strip()[:_LONGEST_SEARCH], ""
        if asked:
            try:
                raise falcon.HTTPSeeOther(f"/orders/{UUID(asked)}")
            except ValueError:
                problem = "That is no order id: it has the form 0198c5f0-7f1e-7a3b-8c2d-1e2f3a4b5c6d."
        problems: list[str] = []
        recent, fallout = await asyncio.gather(
            _asked(self._sources.history.recent(), problems, "The database"),
            _asked(self._sources.history.fallout(), problems, "The database"),
        )
        body = pages.orders(recent or [], fallout or [], asked, problem)
        self._show(req, resp, "Orders", [pages.notice(_once(problems)), body], "/orders")


class OrderResource(_Page):
    """GET /orders/{order_id}: the timeline of one order. 404: there is none."""

    async def on_get(self, req: Request, resp: Response, order_id: UUID) -> None:
        """Show it."""
        try:
            found, traces = await asyncio.gather(
                self._sources.history.order(order_id),
                asyncio.to_thread(self._sources.intake.traces_of_order, str(order_id)),
            )
        except HistoryUnavailableError as error:
            resp.status = 503
            self._show(req, resp, "Order", pages.notice([f"The database does not answer: {error}"]), "/orders")
            return
        if found is None:
            resp.status = 404
            self._show(req, resp, "Order", pages.orders([], [], str(order_id), "There is no such order."), "/orders")
            return
        self._show(req, resp, f"Order {order_id}", pages.order(found[0], found[1], traces), "/orders")


class ProcessesResource(_Page):
    """GET /processes."""

    async def on_get(self, req: Request, resp: Response) -> None:
        """Show what the engine exported."""
        engine = self._sources.engine
        versions, jobs, incidents = await asyncio.gather(
            asyncio.to_thread(engine.versions), asyncio.to_thread(engine.jobs), asyncio.to_thread(engine.incidents)
        )
        self._show(
            req,
            resp,
            "Processes",
            pages.processes(versions, jobs, incidents, self._sources.read_up_to()),
            "/processes",
            refresh=_REFRESH,
        )


class AlertsResource(_Page):
    """GET /alerts."""

    async def on_get(self, req: Request, resp: Response) -> None:
        """Show what is raised, and what was."""
        problems: list[str] = []
        raised, history = await asyncio.gather(
            _asked(self._sources.monitoring.alerts(), problems, "Alertmanager"),
            asyncio.to_thread(self._sources.intake.alerts),
        )
        body = pages.alerts(raised, history)
        self._show(req, resp, "Alerts", [pages.notice(problems), body], "/alerts", refresh=_REFRESH)


class SearchResource(_Page):
    """GET /search?q=: lines of all journals and spans that name an identifier."""

    async def on_get(self, req: Request, resp: Response) -> None:
        """Search."""
        asked = (req.get_param("q") or "").strip()[:_LONGEST_SEARCH]
        if not asked:
            self._show(req, resp, "Logs and traces", pages.search("", None, [], [], ""), "/search")
            return
        problem, lines = "", []
        try:
            lines = list(await self._sources.journal(asked, "-48h"))
        except ValueError:
            problem = "An identifier has letters, digits and dashes only."
        except JournalUnreadableError as error:
            problem = f"The journals cannot be searched: {error}"
        intake = self._sources.intake
        trace = asked.lower() if len(asked) == _TRACE_DIGITS else ""
        spans, traces = await asyncio.gather(
            asyncio.to_thread(intake.trace, trace), asyncio.to_thread(intake.traces_of_order, asked.lower())
        )
        self._show(req, resp, "Logs and traces", pages.search(asked, lines, spans, traces, problem), "/search")


def create_app(sources: Sources, sessions: Sessions, metrics: ConsoleMetrics) -> falcon.asgi.App[Request, Response]:
    """Wire the pages."""
    app = falcon.asgi.App(middleware=[Guard(sessions)])
    app.add_error_handler(Exception, _unexpected)
    app.add_route("/login", LoginResource(sources, sessions, metrics))
    app.add_route("/logout", LogoutResource(sessions))
    app.add_route("/static/console.css", StyleResource())
    app.add_route("/health/ready", HealthResource())
    app.add_route("/", TopologyResource(sources))
    app.add_route("/dashboards/{name}", DashboardResource(sources))
    app.add_route("/orders", OrdersResource(sources))
    app.add_route("/orders/{order_id:uuid}", OrderResource(sources))
    app.add_route("/processes", ProcessesResource(sources))
    app.add_route("/alerts", AlertsResource(sources))
    app.add_route("/search", SearchResource(sources))
    return app


async def _asked(question: Awaitable[Any], problems: list[str], whom: str) -> Any:
    """Return the answer, or None and say why there is none."""
    try:
        return await question
    except (MonitoringUnavailableError, HistoryUnavailableError) as error:
        problems.append(f"{whom} does not answer: {error}")
        return None


def _once(problems: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(problems))


def _session(req: Request) -> str:
    found = req.get_cookie_values(COOKIE)
    return found[0] if found else ""


async def _form(req: Request) -> dict[str, str]:
    """Read a short form."""
    body = b""
    async for chunk in req.stream:
        body += chunk
        if len(body) > _MOST_BODY:
            raise falcon.HTTPContentTooLarge
    fields = parse_qs(body.decode("utf-8", errors="replace"), keep_blank_values=True, max_num_fields=10)
    return {name: values[0] for name, values in fields.items()}


async def _unexpected(req: Request, _resp: Response, error: Exception, _params: Mapping[str, str]) -> None:
    """Nothing of an unforeseen error leaves the process, and the process goes on."""
    if isinstance(error, falcon.HTTPError | falcon.HTTPStatus):
        raise error
    log.error("unexpected error", path=req.path, exc_info=error)
    raise falcon.HTTPInternalServerError
