"""What every operator's command may answer instead of its result."""

from __future__ import annotations


class OperationError(Exception):
    """The command could not do what was asked; each of `problems` says what is wrong and, where it helps, the remedy."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems
