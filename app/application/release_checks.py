"""Judges what was measured before, during and after a release; measures nothing itself.

Every check has a name, what was measured, the limit it was held against, and a remedy when it failed. A check without
data says so: nothing passes because nobody looked.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["passed", "failed", "inconclusive", "not installed yet"]

_PERCENT = 100.0
_SERVER_ERROR = "5"
_CLIENT_ROUTES = "/v1/"


@dataclass(frozen=True)
class Check:
    """One judged measurement."""

    name: str
    verdict: Verdict
    measured: str
    limit: str
    remedy: str = ""


@dataclass(frozen=True)
class Limits:
    """From when on a figure stops a release; the release_checks role's defaults say why each has its value."""

    database_connections_percent: float
    database_lock_wait_seconds: float
    kafka_unavailable_partitions: int
    camunda_unhealthy_partitions: int
    redis_memory_percent: float
    api_error_percent: float
    api_p95_seconds: float
    outbox_backlog_records: int
    open_incidents_and_fallout: int
    consumer_lag_records: int
    business_success_percent: float


@dataclass(frozen=True)
class Target:
    """Where one running instance shows its figures."""

    unit: str
    instance: str
    host: str
    url: str
    installed: bool

    @property
    def name(self) -> str:
        """How people know it: the instance and its host."""
        return f"{self.instance} on {self.host}"


@dataclass(frozen=True)
class Sample:
    """One figure as an instance shows it."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True)
class Figures:
    """One look at all targets.

    Attributes:
        samples: by target name; only targets that answered.
        silent: installed targets that did not answer, with the reason.
        absent: targets that are not installed yet.
    """

    samples: Mapping[str, Sequence[Sample]]
    silent: Mapping[str, str] = field(default_factory=dict)
    absent: Sequence[str] = ()

    def largest(self, name: str) -> float | None:
        """The largest value of a gauge over all targets, or None where none shows it."""
        values = [sample.value for samples in self.samples.values() for sample in samples if sample.name == name]
        return max(values, default=None)

    def total(self, name: str) -> float | None:
        """The sum of a gauge over all targets, or None where none shows it."""
        values = [sample.value for samples in self.samples.values() for sample in samples if sample.name == name]
        return sum(values) if values else None


def increases(before: Figures, after: Figures, name: str) -> list[Sample]:
    """How much each series of a counter grew, over the targets that answered both times.

    A counter that is smaller than before belongs to a process that restarted: all of it is growth.
    """
    grown: list[Sample] = []
    for target, samples in after.samples.items():
        earlier = {
            tuple(sorted(sample.labels.items())): sample.value
            for sample in before.samples.get(target, ())
            if sample.name == name
        }
        for sample in samples:
            if sample.name == name:
                start = earlier.get(tuple(sorted(sample.labels.items())), 0.0)
                growth = sample.value - start if sample.value >= start else sample.value
                grown.append(Sample(name, sample.labels, growth))
    return grown


def silent_units(figures: Figures) -> Check | None:
    """Name the installed instances that show no figures; None when all do."""
    if not figures.silent:
        return None
    return Check(
        "unit-metrics",
        "failed",
        "; ".join(f"{name}: {reason}" for name, reason in sorted(figures.silent.items())),
        "every installed instance answers /metrics",
        "systemctl status and journalctl -u of the instance on its host say why",
    )


def error_rate(before: Figures, after: Figures, limits: Limits, name: str = "error-rate") -> Check:
    """The share of API answers that are server errors between two looks."""
    limit = f"at most {limits.api_error_percent:g} %"
    if not any(target.startswith("api ") for target in after.samples) and any(
        target.startswith("api ") for target in after.absent
    ):
        return Check(name, "not installed yet", "no API is installed", limit)
    requests = client_requests(before, after)
    total = sum(sample.value for sample in requests)
    if total == 0:
        return Check(name, "inconclusive", "no API request was answered meanwhile", limit)
    errors = sum(sample.value for sample in requests if is_server_error(sample))
    percent = _PERCENT * errors / total
    routes = sorted(
        {sample.labels.get("route", "?") for sample in requests if sample.value and is_server_error(sample)}
    )
    measured = f"{percent:.2g} % of {total:.0f} requests" + (f", on {', '.join(routes)}" if routes else "")
    if percent > limits.api_error_percent:
        return Check(name, "failed", measured, limit, "journalctl -u cpq-oms-api on the API hosts names each error")
    return Check(name, "passed", measured, limit)


def api_latency(before: Figures, after: Figures, limits: Limits) -> Check:
    """The 95th percentile of the API's response time between two looks, from its histogram."""
    limit = f"95 % within {limits.api_p95_seconds:g} s"
    buckets: dict[float, float] = {}
    for sample in increases(before, after, "cpq_api_request_seconds_bucket"):
        bound = float(sample.labels["le"])
        buckets[bound] = buckets.get(bound, 0.0) + sample.value
    total = buckets.get(math.inf, 0.0)
    if total == 0:
        return Check("api-latency", "inconclusive", "no API request was answered meanwhile", limit)
    slowest = next(bound for bound, count in sorted(buckets.items()) if count >= 0.95 * total)
    measured = f"95 % of {total:.0f} requests within {slowest:g} s"
    if slowest > limits.api_p95_seconds:
        return Check(
            "api-latency", "failed", measured, limit, "look at slow statements and pool waits of the API hosts"
        )
    return Check("api-latency", "passed", measured, limit)


def outbox_backlog(relay_figure: float | None, stored: int | None, limits: Limits) -> Check:
    """Events committed and not yet published: the relay's own figure, or a count where no relay runs yet."""
    limit = f"at most {limits.outbox_backlog_records} events"
    backlog = relay_figure if relay_figure is not None else stored
    if backlog is None:
        return Check("outbox-backlog", "not installed yet", "no outbox table", limit)
    measured = f"{backlog:.0f} events" + ("" if relay_figure is not None else " (counted: no relay shows a figure)")
    if backlog > limits.outbox_backlog_records:
        remedy = "let the relay catch up first: its journal and cpq_relay_publish_failures_total say what holds it"
        return Check("outbox-backlog", "failed", measured, limit, remedy)
    return Check("outbox-backlog", "passed", measured, limit)


def redis_namespace(
    environment: str,
    declared: Mapping[str, Iterable[str]],
    found: Mapping[str, Iterable[str]],
    foreign: int,
    example: str,
) -> Check:
    """Whether the cache is this environment's alone: what its users may touch, and whose keys lie in it.

    Args:
        environment: its name, with which each of its keys begins.
        declared: key patterns by user, as the contract has them for this environment.
        found: key patterns by user, as the server has them.
        foreign: how many keys do not begin with that name.
        example: one of these.
    """
    problems: list[str] = []
    remedies: list[str] = []
    for user, patterns in sorted(declared.items()):
        if user not in found:
            problems.append(f"there is no user {user}")
            continue
        strange, lacking = (set(found[user]) - set(patterns), set(patterns) - set(found[user]))
        if strange or lacking:
            expected = ", ".join(sorted(lacking)) or "no such pattern"
            problems.append(f"user {user}: expected {expected}, found {', '.join(sorted(strange)) or 'none of it'}")
    if problems:
        remedies.append("playbooks/redis.yml gives the users the patterns of the inventory's environment (cpq_env)")
    if foreign:
        problems.append(f"{foreign} keys of another environment, such as {example}")
        remedies.append(
            "find whose REDIS_URL leads here and correct it; then empty the cache: systemctl restart redis-server"
        )
    limit = f"users write keys that begin with {environment}: and there are no others"
    if problems:
        return Check("redis-namespace", "failed", "; ".join(problems), limit, "; ".join(remedies))
    return Check("redis-namespace", "passed", "no key and no right of another environment", limit)


def kafka_topics(used: Iterable[str], present: Iterable[str]) -> Check:
    """Whether every topic that the installed releases write and read is still there.

    A new topic is none of these. One that was there is not made anew without a word: what was in it is lost, and the positions
    of its readers are those of another log.
    """
    limit = "every topic of the installed releases is there"
    wanted = sorted(set(used))
    gone = sorted(set(wanted) - set(present))
    if gone:
        remedy = (
            "find out who deleted it; cpq-oms-admin topics apply makes it anew, empty, "
            "and then its groups are moved to oldest (docs/consumers.md)"
        )
        return Check("kafka-topics", "failed", f"not there: {', '.join(gone)}", limit, remedy)
    if not wanted:
        return Check("kafka-topics", "not installed yet", "nothing that uses topics is installed", limit)
    return Check("kafka-topics", "passed", f"{len(wanted)} of {len(wanted)} topics", limit)


def kafka_lag(figures: Figures, limits: Limits) -> Check:
    """How far the slowest consumer group is behind."""
    limit = f"at most {limits.consumer_lag_records} records"
    lag = figures.largest("cpq_consumer_lag_records")
    if lag is None:
        return Check("kafka-lag", "inconclusive", "no consumer shows its lag", limit)
    measured = f"{lag:.0f} records"
    if lag > limits.consumer_lag_records:
        remedy = "journalctl -u 'cpq-oms-consumer@*' on the consumer hosts; a halted partition is named there"
        return Check("kafka-lag", "failed", measured, limit, remedy)
    return Check("kafka-lag", "passed", measured, limit)


def business_success(completed: int, failed: int, limits: Limits) -> Check:
    """The share of orders that ended completed among those that ended or fell out since the release began."""
    limit = f"at least {limits.business_success_percent:g} %"
    if completed + failed == 0:
        return Check("business-success-rate", "inconclusive", "no order ended meanwhile", limit)
    percent = _PERCENT * completed / (completed + failed)
    measured = f"{percent:.3g} %: {completed} completed, {failed} failed or in fallout"
    if percent < limits.business_success_percent:
        remedy = "cpq-oms-admin reconcile run lists the orders; open fallout cases say what went wrong"
        return Check("business-success-rate", "failed", measured, limit, remedy)
    return Check("business-success-rate", "passed", measured, limit)


@dataclass(frozen=True)
class WindowRule:
    """How many samples are taken and how many may be bad."""

    samples: int
    interval_seconds: float
    bad_in_a_row: int
    bad_percent: float


@dataclass
class Window:
    """The monitoring window: takes looks one after the other and says when enough was seen.

    A sample is bad when an installed instance does not answer, was restarted since the look before, or when the error
    rate or the outbox backlog is over its limit at that moment. Lag and latency need a longer look: post-checks.
    """

    rule: WindowRule
    limits: Limits
    first: Figures
    looks: int = 0
    bad: list[str] = field(default_factory=list)
    _last: Figures | None = None
    _row: int = 0
    _requests: float = 0.0

    def take(self, figures: Figures) -> list[str]:
        """Judge one more look and return what is bad about it."""
        before = self._last or self.first
        reasons = [f"{name} does not answer" for name in sorted(figures.silent)]
        reasons += [f"{name} was restarted" for name in _restarted(before, figures)]
        rate = error_rate(before, figures, self.limits)
        backlog = outbox_backlog(figures.total("cpq_outbox_backlog"), None, self.limits)
        reasons += [f"{check.name} {check.measured}" for check in (rate, backlog) if check.verdict == "failed"]
        self._requests += sum(sample.value for sample in client_requests(before, figures))
        self._last = figures
        self.looks += 1
        self._row = self._row + 1 if reasons else 0
        if reasons:
            self.bad.append(f"sample {self.looks}: {', '.join(reasons)}")
        return reasons

    @property
    def failed(self) -> bool:
        """Whether what was seen is enough to fail, so that the rest of the window need not be waited for."""
        rule = self.rule
        return self._row >= rule.bad_in_a_row or len(self.bad) > rule.samples * rule.bad_percent / _PERCENT

    @property
    def over(self) -> bool:
        """Whether all samples were taken."""
        return self.looks >= self.rule.samples

    def checks(self) -> list[Check]:
        """The verdicts: the window itself, and whether there was traffic to judge errors by."""
        rule = self.rule
        limit = f"{rule.samples} samples, no {rule.bad_in_a_row} bad in a row, at most {rule.bad_percent:g} % bad"
        measured = f"{len(self.bad)} of {self.looks} samples bad"
        if self.failed:
            remedy = "the instance named above has a journal on its host; the release stays at what it has installed"
            window = Check("window", "failed", "; ".join([measured, *self.bad]), limit, remedy)
        else:
            window = Check("window", "passed", "; ".join([measured, *self.bad]), limit)
        if self._requests:
            return [window]
        quiet = "no API request was answered meanwhile"
        return [
            window,
            Check("window-error-rate", "inconclusive", quiet, f"at most {self.limits.api_error_percent:g} %"),
        ]


def is_server_error(sample: Sample) -> bool:
    """Whether a series of answered requests counts those that the server could not answer."""
    return sample.labels.get("status", "").startswith(_SERVER_ERROR)


def client_requests(before: Figures, after: Figures) -> list[Sample]:
    """Requests of clients: probes and our own scrapes say nothing about the service."""
    grown = increases(before, after, "cpq_api_requests_total")
    return [sample for sample in grown if sample.labels.get("route", "").startswith(_CLIENT_ROUTES)]


def _restarted(before: Figures, after: Figures) -> list[str]:
    name = "process_start_time_seconds"
    started = {
        target: next((sample.value for sample in samples if sample.name == name), None)
        for target, samples in before.samples.items()
    }
    return sorted(
        target
        for target, samples in after.samples.items()
        for sample in samples
        if sample.name == name and started.get(target) not in {None, sample.value}
    )


def failures(checks: Iterable[Check]) -> list[Check]:
    """The checks that stop a release."""
    return [check for check in checks if check.verdict == "failed"]
