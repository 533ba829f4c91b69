"""Holds a finished artifact to its declaration, by looking only into the artifact."""

from __future__ import annotations

import ast
import io
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.parser import HeaderParser
from pathlib import Path, PurePosixPath

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from artifact_build.declaration import Declaration
from artifact_build.wheelhouse import PYTHON_VERSION

# The hosts' environment, whatever machine builds.
_HOST = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "python_full_version": f"{PYTHON_VERSION}.0",
    "python_version": PYTHON_VERSION,
    "sys_platform": "linux",
}


@dataclass
class _Wheel:
    """What one wheel brings: its name, what it needs, and the Python files by their names."""

    name: str = ""
    requires: list[Requirement] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)

    @property
    def top_levels(self) -> frozenset[str]:
        """The names that `import` finds in it."""
        return frozenset(name.split("/")[0].split(".")[0] for name in self.files if ".dist-info/" not in name)


def inspect(artifact: Path, declaration: Declaration) -> list[str]:
    """Return every way in which the artifact is not what its declaration says; nothing when it is.

    Judged are: the files of our own wheel; the imports of every own module, lazy ones included; the third-party
    distributions, which must be those declared, each needed by another and each with all that it needs.
    """
    wheels = {wheel.name: wheel for wheel in _wheels(artifact)}
    own = wheels.pop(declaration.name, None)
    if own is None:
        return [f"{declaration.name}: the artifact has no wheel of its own"]
    problems = [*_own_files(own, declaration), *_own_imports(own, wheels, declaration)]
    problems += [f"holds undeclared distribution {name}" for name in sorted(set(wheels) - declaration.distributions)]
    problems += [f"lacks declared distribution {name}" for name in sorted(declaration.distributions - set(wheels))]
    problems += _dependencies(own, wheels)
    return [f"{declaration.name}: {problem}" for problem in problems]


def _wheels(artifact: Path) -> Iterator[_Wheel]:
    with tarfile.open(artifact) as tar:
        for member in tar:
            stream = tar.extractfile(member)
            if stream is None or not member.name.endswith(".whl"):
                continue
            wheel = _Wheel()
            with zipfile.ZipFile(io.BytesIO(stream.read())) as archive:
                for name in archive.namelist():
                    # One level deep: some wheels carry vendored distributions of their own.
                    if name.endswith(".dist-info/METADATA") and name.count("/") == 1:
                        metadata = HeaderParser().parsestr(archive.read(name).decode())
                        wheel.name = str(canonicalize_name(metadata["Name"]))
                        wheel.requires = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
                    wheel.files.append(name)
                    if name.startswith("app/") and name.endswith(".py"):
                        wheel.sources[name] = archive.read(name).decode()
            yield wheel


def _own_files(own: _Wheel, declaration: Declaration) -> Iterator[str]:
    for name in own.files:
        path = PurePosixPath(name)
        if ".dist-info/" in name:
            continue
        if ".data/data/share/cpq-oms/" in name:
            source = name.partition(".data/data/share/cpq-oms/")[2]
            if not any(PurePosixPath(source).match(pattern) for pattern in declaration.shared):
                yield f"holds undeclared shared file {source}"
        elif path.suffix == ".py":
            if not declaration.allows_module(_module(name)):
                yield f"holds module {_module(name)}, which is not on its allow-list"
        elif path.suffix == ".sql" and path.parent.name == "sql":
            if str(path.parent.parent / f"{path.stem}.py") not in own.sources:
                yield f"holds {name} without the module that it belongs to"
        elif not any(path.match(pattern) for pattern in declaration.data):
            yield f"holds undeclared data file {name}"


def _own_imports(own: _Wheel, others: Mapping[str, _Wheel], declaration: Declaration) -> Iterator[str]:
    modules = {_module(name) for name in own.sources}
    third_party = {top for wheel in others.values() for top in wheel.top_levels}
    for name, text in sorted(own.sources.items()):
        for imported in sorted(_imports(text, _module(name), is_package=name.endswith("/__init__.py"))):
            top = imported.split(".")[0]
            if top == "app":
                if not declaration.allows_module(imported):
                    yield f"{_module(name)} imports {imported}, which is not on the allow-list"
                elif imported not in modules and imported.rpartition(".")[0] not in modules:
                    yield f"{_module(name)} imports {imported}, which the artifact does not hold"
            elif top not in sys.stdlib_module_names and top not in third_party:
                yield f"{_module(name)} imports {imported}, which no distribution in the artifact brings"


def _imports(text: str, module: str, *, is_package: bool) -> set[str]:
    found: set[str] = set()
    skipped: set[ast.AST] = set()
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            skipped.update(inner for statement in node.body for inner in ast.walk(statement))
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".") if is_package else module.split(".")[:-1]
                base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
            if base == "app" or base.startswith("app."):
                # `from app.x import y` loads module y when there is one; when not, x is what counts.
                found.update(f"{base}.{alias.name}" for alias in node.names)
            else:
                found.add(base)
    return found


def _dependencies(own: _Wheel, others: Mapping[str, _Wheel]) -> Iterator[str]:
    needed: set[tuple[str, str]] = set()
    reached: set[str] = set()
    waiting: list[tuple[str, str]] = [(own.name, "")]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in needed:
            continue
        needed.add((name, extra))
        wheel = own if name == own.name else others.get(name)
        if wheel is None:
            yield f"needs {name}, which it does not hold"
            continue
        reached.add(name)
        for requirement in wheel.requires:
            if requirement.marker is None or requirement.marker.evaluate({**_HOST, "extra": extra}):
                wanted = str(canonicalize_name(requirement.name))
                waiting += [(wanted, option) for option in ("", *requirement.extras)]
    yield from (f"holds {name}, which nothing in it needs" for name in sorted(set(others) - reached))


def _module(name: str) -> str:
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
