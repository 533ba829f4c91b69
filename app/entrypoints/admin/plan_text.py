"""A plan as people read it: what changes, what runs in which order and why, what stands against it, and the way back."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping

from rich import box
from rich.console import Console
from rich.table import Table

from app.application.release_plan.model import Change, Compatibility, Plan, Verdict
from app.contracts.loader import RELEASE_PLAYBOOK

_WIDTH = 170
_NOTHING = "-"


def text(plan: Plan) -> str:
    """The whole plan; the same plan is the same text, wherever it is printed."""
    output = io.StringIO()
    console = Console(file=output, width=_WIDTH, color_system=None, highlight=False, markup=False, emoji=False)
    for line in _head(plan):
        console.print(line)
    _section(console, "Changes")
    if plan.changes:
        console.print(_changes(plan.changes))
    else:
        console.print("none")
    if plan.compatibility:
        _section(console, "Compatibility")
        console.print(_compatibility(plan.compatibility))
    _section(console, "Steps")
    for line in _steps(plan):
        console.print(line, soft_wrap=True)
    _judgement(console, plan)
    _pages(console, plan)
    return "\n".join(line.rstrip() for line in output.getvalue().splitlines()) + "\n"


def verdict_text(former: str, running: str, verdict: Verdict, template: Mapping[str, str]) -> str:
    """A verdict on the way back as people read it: each reason with what live data said, and the filled page of spec 15.3."""
    lines = [f"{former} again, with {running} installed: {verdict.way}", ""]
    for ground in verdict.grounds:
        lines.append(f"{ground.way}: {ground.because}")
        lines += [f"    {ground.ask or 'asked'}: {ground.answer}"] if ground.answer else []
    lines += ["", *(f"{key}: {value}" for key, value in template.items())]
    return "\n".join(lines) + "\n"


def _judgement(console: Console, plan: Plan) -> None:
    _section(console, "Refused" if plan.refusals else "Refused: nothing")
    for refusal in plan.refusals:
        console.print(f"{refusal.rule}: {refusal.what}", soft_wrap=True)
        console.print(f"    remedy: {refusal.remedy}", soft_wrap=True)
    _section(console, f"Way back: {plan.verdict.way}")
    for ground in plan.verdict.grounds:
        console.print(f"{ground.way}: {ground.because}", soft_wrap=True)
        if ground.ask:
            answer = f" (now: {ground.answer})" if ground.answer else ""
            console.print(f"    ask: {ground.ask}{answer}", soft_wrap=True)


def _pages(console: Console, plan: Plan) -> None:
    _section(console, "Rollback plan")
    for key, value in plan.template.items():
        console.print(f"{key}: {value}", soft_wrap=True)
    _section(console, "Runbook")
    for heading, lines in plan.runbook.items():
        if len(lines) == 1:
            console.print(f"{heading}: {lines[0]}", soft_wrap=True)
            continue
        console.print(f"{heading}:")
        for line in lines:
            console.print(f"  {line}", soft_wrap=True)


def _head(plan: Plan) -> Iterator[str]:
    live = ", ".join(plan.live) or "nothing"
    yield f"{plan.release_id}, with {live} installed"
    if plan.is_backward:
        yield "It goes back: changes of interfaces are told as the later release once made them."


def _changes(changes: tuple[Change, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("kind", "name", "category", "old", "new", "forward", "back", "what"):
        table.add_column(column, overflow="fold")
    for each in changes:
        old, new, category = each.old or _NOTHING, each.new or _NOTHING, each.category or _NOTHING
        table.add_row(each.kind, each.name, category, old, new, each.forward, each.backward, each.text)
    return table


def _compatibility(interfaces: tuple[Compatibility, ...]) -> Table:
    table = Table("interface", "forward", "back", "differences", box=box.SIMPLE_HEAD, pad_edge=False)
    for each in interfaces:
        forward, backward = (level or "one of them has none" for level in (each.forward, each.backward))
        table.add_row(each.interface, forward, backward, str(each.differences))
    return table


def _steps(plan: Plan) -> Iterator[str]:
    acting = [step for step in plan.steps if step.acts]
    for number, step in enumerate(acting, 1):
        hosts = f" [{', '.join(step.hosts)}]" if step.hosts else ""
        yield f"{number:>2}. {step.play}{hosts}"
        yield f"      why: {step.reason} ({step.spec})"
        if step.because:
            yield f"      for: {', '.join(step.because)}"
        yield f"      gate: {step.gate}"
        if step.playbook != RELEASE_PLAYBOOK:
            yield f"      by: ansible-playbook playbooks/{step.playbook} -i ENV, after the release"
    if idle := [step.step for step in plan.steps if not step.acts]:
        yield f"Nothing to do for: {', '.join(idle)}."
    for act in plan.afterwards:
        yield f"Afterwards: {act}"


def _section(console: Console, title: str) -> None:
    console.print()
    console.print(title)
    console.print("-" * len(title))
