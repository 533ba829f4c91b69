"""Group audit-export: appends every event of a tenant to its chain; files are written from the rows between two polls."""

from __future__ import annotations

from app.application.audit_export import ExportEvent, export_events, read_any_event
from app.entrypoints.consumer.loop import ConsumerGroup

NAME = "audit-export"


def group() -> ConsumerGroup[ExportEvent]:
    """The group's handler."""
    return ConsumerGroup(name=NAME, read=read_any_event, apply=export_events)
