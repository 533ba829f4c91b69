"""Whether a release can be taken back once it is out, change by change, and what live data has to be asked (spec 15.1, 15.2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from app.application.release_plan.described import Live
from app.application.release_plan.model import Change, Ground, Verdict, Way
from app.contracts.compatibility.finding import Level
from app.contracts.loader import ChangeKind

_INSTANCES = "cpq-oms-admin processes status: orders of {name}"


_MIGRATIONS: Mapping[ChangeKind, tuple[Way, str, str]] = {
    "expand": (Way.POSSIBLE, "stays in the database; the release before runs on it", ""),
    "backfill": (
        Way.CONDITIONAL,
        "changes data once it is begun, and the release before may read it otherwise",
        "cpq-oms-admin migrate backfill --plan: is it done or begun?",
    ),
    "contract": (
        Way.CONDITIONAL,
        "removes what the release before looks at, once it is applied",
        "cpq-oms-admin migrate plan: is it applied?",
    ),
}


def verdict(changes: Sequence[Change], live: Live, *, is_first: bool) -> Verdict:
    """The grounds of all changes, the worst first.

    Args:
        changes: of the release.
        live: what the environment answered.
        is_first: nothing is installed that could be gone back to.
    """
    if is_first:
        return Verdict((Ground(Way.FORWARD_ONLY, "nothing was installed before"),))
    found = list(dict.fromkeys(ground for change in changes for ground in grounds(change, live)))
    units = [change.name for change in changes if change.kind == "unit"]
    if units:
        because = f"code of {', '.join(units)}: the artifacts of the release before stay installed beside"
        found.append(Ground(Way.POSSIBLE, because))
    return Verdict(worst_first(found))


def worst_first(found: Iterable[Ground]) -> tuple[Ground, ...]:
    """Grounds in the order in which a person reads them."""
    order = (Way.FORWARD_ONLY, Way.CONDITIONAL, Way.POSSIBLE)
    return tuple(sorted(found, key=lambda ground: order.index(ground.way)))


def grounds(change: Change, live: Live) -> Iterator[Ground]:
    """What one change does to the way back. Job types and variables come with the process whose instances carry them, and units are told once for all."""
    if change.kind in _MIGRATIONS:
        way, text, ask = _MIGRATIONS[change.kind]
        yield Ground(way, f"{change.name} {text}", ask, "not applied" if ask else "")
    elif change.kind == "process":
        yield from _process(change, live)
    elif change.kind in {"event", "topic"}:
        yield from _event(change)
    elif change.kind == "api":
        yield from _api(change)
    elif change.kind == "redis-key":
        because = (
            f"Redis key {change.name}: values of another version are none to the release before, which makes them anew"
        )
        yield Ground(Way.POSSIBLE, because)
    elif change.kind == "setting" and change.backward is Level.BREAKING:
        because = f"setting {change.name}: the inventory does not suit the release before"
        yield Ground(Way.CONDITIONAL, because, "Is the inventory of the release before at hand? It goes back with it")
    elif change.kind == "flag" and change.backward is not Level.COMPATIBLE:
        because = f"flag {change.name}: behaviour changes where the inventory says nothing"
        yield Ground(Way.CONDITIONAL, because, "cpq-oms-admin flags history: was anything decided by it?")


def _process(change: Change, live: Live) -> Iterator[Ground]:
    name = change.name
    if change.new is None or change.name.endswith(" by default"):
        if change.new is not None:
            ask = _INSTANCES.format(name=change.new)
            because = f"new cases go to {change.new} by themselves, and instances stay on the version they began with"
            yield Ground(Way.CONDITIONAL, because, ask)
        return
    ask = _INSTANCES.format(name=name)
    count = next((process.live for process in live.reached or () if process.process_id == name), 0)
    answer = "" if live.reached is None else f"{count} live or pending"
    if change.backward is not Level.BREAKING:
        because = f"instances of {name} stay on it, and workers of the release before serve them"
        yield Ground(Way.POSSIBLE, because, ask, answer)
    elif count:
        because = f"{count} instances of {name} run, and workers of the release before do not serve them"
        yield Ground(Way.FORWARD_ONLY, because, ask, answer)
    else:
        because = (
            f"workers of the release before do not serve {name}; there is a way back until an order is routed to it"
        )
        yield Ground(Way.CONDITIONAL, because, ask, answer)


def _event(change: Change) -> Iterator[Ground]:
    if change.new is None:
        return
    version = change.name.partition(".schema.json")[0]
    if change.old is None and " " not in change.name:
        because = f"{change.kind} {change.name} is not known to the release before: what is published stays unread"
        yield Ground(
            Way.CONDITIONAL,
            because,
            f"Was anything of {version} published? cpq.outbox_event and the topic's end offsets say it",
        )
    elif "enum" in change.text:
        because = f"event {change.name}: a value is new that orders or quotes may have by then"
        yield Ground(Way.CONDITIONAL, because, "How many orders and quotes have it? Their state in PostgreSQL says it")
    elif change.kind == "topic":
        yield Ground(
            Way.POSSIBLE,
            f"topic {change.name}: nothing shrinks or deletes a topic, and the release before reads it as it is",
        )
    else:
        yield Ground(Way.POSSIBLE, f"event {change.name}: consumers of the release before pass over it")


def _api(change: Change) -> Iterator[Ground]:
    if change.name.endswith("/enum") and change.category == "response":
        because = f"api {change.name}: a state is new that the release before does not know"
        yield Ground(Way.CONDITIONAL, because, "How many orders and quotes have it? Their state in PostgreSQL says it")
    elif change.backward is Level.BREAKING:
        because = f"api {change.name}: clients that use what is new are refused by the release before"
        yield Ground(Way.CONDITIONAL, because, "Does a client use it already? The access log of the edges says it")
