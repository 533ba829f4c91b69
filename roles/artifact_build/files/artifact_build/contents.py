"""Which of our own files an artifact holds: what its entry point reaches by imports, and the data that goes along."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

import grimp

from artifact_build.declaration import LOCATION, Declaration
from artifact_build.refusal import RefusedError

_SQL_FOLDER = "sql"


class ImportGraph:
    """The imports among our own modules, imports for type checking only left out: they never happen at run time."""

    def __init__(self, root: Path) -> None:
        # grimp finds the package the way an import would; the module cache would answer with another checkout's.
        sys.path.insert(0, str(root))
        try:
            self._graph = grimp.build_graph("app", exclude_type_checking_imports=True, cache_dir=None)
        finally:
            sys.path.remove(str(root))
        self._root = root

    def reachable(self, package: str) -> frozenset[str]:
        """Return every module of `package` and all they import, directly or not, with the packages around them."""
        if package not in self._graph.modules:
            raise RefusedError(f"{package.replace('.', '/')} has no __init__.py")
        found: set[str] = set()
        waiting = [package, *self._graph.find_descendants(package)]
        while waiting:
            module = waiting.pop()
            if module in found:
                continue
            found.add(module)
            waiting.extend(self._graph.find_modules_directly_imported_by(module))
            if "." in module:
                waiting.append(module.rpartition(".")[0])
        return frozenset(found)

    def importers(self, module: str) -> frozenset[str]:
        """Return the modules that import `module` directly."""
        return frozenset(self._graph.find_modules_that_directly_import(module))

    def chain(self, package: str, module: str) -> str:
        """Return how `package` comes to import `module`, for the message that refuses it."""
        shortest = self._graph.find_shortest_chain(package, module, as_packages=True)
        return " -> ".join(shortest) if shortest else f"{package} -> … -> {module}"

    def file_of(self, module: str) -> str:
        """Return the module's file relative to the checkout."""
        stem = module.replace(".", "/")
        package = f"{stem}/__init__.py"
        return package if (self._root / package).is_file() else f"{stem}.py"


def own_files(graph: ImportGraph, declaration: Declaration, names: Iterable[str]) -> Mapping[str, str]:
    """Return the artifact's own files: source path by path in the installation, `share/…` for shared ones.

    Raises:
        RefusedError: the entry point reaches a module that is not on the allow-list, or a declared pattern matches nothing.
    """
    modules = graph.reachable(declaration.entry_point)
    forbidden = {module for module in modules if not declaration.allows_module(module)}
    if forbidden:
        # Named is the import that leaves the allow-list, not what follows from it.
        module = min(forbidden, key=lambda module: (not graph.importers(module) & (modules - forbidden), module))
        chain = graph.chain(declaration.entry_point, module)
        raise RefusedError(f"{declaration.name} must not hold {module}: {chain} (allow-list in {LOCATION})")
    files = {graph.file_of(module): graph.file_of(module) for module in modules}
    available = sorted(names)
    for pattern in declaration.data:
        files.update({name: name for name in _matching(available, pattern, declaration)})
    for pattern in declaration.shared:
        files.update({f"share/cpq-oms/{name}": name for name in _matching(available, pattern, declaration)})
    files.update({name: name for name in available if _is_sql_of(name, modules)})
    return dict(sorted(files.items()))


def _matching(names: Iterable[str], pattern: str, declaration: Declaration) -> list[str]:
    found = [name for name in names if PurePosixPath(name).match(pattern) and name.count("/") == pattern.count("/")]
    if not found:
        raise RefusedError(f"{declaration.name}: the declared data {pattern} does not exist")
    return found


def _is_sql_of(name: str, modules: frozenset[str]) -> bool:
    """A module's SQL lies in the folder `sql` beside it under the module's name and travels with it."""
    path = PurePosixPath(name)
    if path.suffix != ".sql" or path.parent.name != _SQL_FOLDER:
        return False
    return ".".join((*path.parent.parent.parts, path.stem)) in modules
