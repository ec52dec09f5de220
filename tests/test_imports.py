"""Who may import whom: rooms stand on top of each other, and a family of methods knows no other."""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from tiny_job import REPOSITORY

CUSTOM = REPOSITORY / "custom"
MODULES = sorted(CUSTOM.rglob("*.py"))
TOOLS = sorted((REPOSITORY / "tools").glob("*.py"))

ORDER = (
    "mucald",
    "mucald.errors",
    "mucald.console",
    "mucald.command_line",
    "mucald.home",
    "mucald.randomness",
    "mucald.optimisers",
    "mucald.config",
    "mucald.device",
    "mucald.tasks",
    "mucald.state",
    "mucald.losses",
    "mucald.nets",
    "mucald.aggregation",
    "mucald.wire",
    "mucald.data",
    "mucald.metrics",
    "mucald.training",
    "mucald.privacy",
    "mucald.results",
    "mucald.federation",
    "mucald.methods.<family>",
    "mucald.methods",
    "mucald.inference",
    "mucald.deploy",
    "mucald.flare",
    "mucald.commands",
    "mucald.__main__",
    "mucald_studies",
)
"""The rooms from bottom to top; a module is in the one whose name fits longest."""

FAMILY = ("config", "nets", "algorithms", "causal", "model", "disclosures", "wire", "server", "site", "")
"""The folders of a family from bottom to top; the last stands for the files in its own, but for ``_LOW``."""

_LOW = ("config", "disclosures")

UP: set[tuple[str, str]] = set()
"""Imports that run up; each is a debt, and five are too many."""

OF_ANOTHER_FAMILY: set[tuple[str, str]] = set()
"""Imports by which a family knows another; there is none."""


def name_of(path: Path) -> str:
    parts = path.relative_to(CUSTOM).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path): path for path in MODULES}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def names_in(nodes: Iterator[ast.AST]) -> set[str]:
    """Return the full names of all that import statements name."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def imported(path: Path) -> set[str]:
    """Return the full names of all that a module imports, wherever in it."""
    return names_in(ast.walk(tree(path)))


def modules_imported(path: Path, for_types: bool = True) -> set[str]:
    """Return the modules of the two packages that a module imports.

    Args:
        path: the module.
        for_types: whether those count that only a type checker reads.
    """
    names = imported(path)
    if not for_types:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                names -= names_in(ast.walk(node))
    found = set()
    for name in names:
        while name and name not in NAMES:
            name = name.rpartition(".")[0]
        found |= {name} - {"", name_of(path)}
    return found


def family_of(module: str) -> str | None:
    """Return the family that a module belongs to."""
    parts = module.split(".")
    is_of_one = module.startswith("mucald.methods.") and (CUSTOM / "/".join(parts[:3])).is_dir()
    return parts[2] if is_of_one else None


def place(module: str) -> tuple[int, int]:
    """Return how high a module stands: its room, and its room within a family."""
    family = family_of(module)
    if family is not None:
        inner = (*module.split(".")[3:], "")[0]
        is_room = inner in _LOW or (CUSTOM / "mucald/methods" / family / inner).is_dir()
        return ORDER.index("mucald.methods.<family>"), FAMILY.index(inner if is_room else "")
    fitting = [room for room in ORDER if f"{module}.".startswith(f"{room}.")]
    return ORDER.index(max(fitting, key=len)), 0


def arrows() -> Iterator[tuple[str, str]]:
    for path in MODULES:
        for other in modules_imported(path):
            yield name_of(path), other


def test_every_folder_has_its_place_in_the_order():
    for module in NAMES:
        room = ".".join(module.split(".")[:2])
        assert room in ORDER or room.startswith("mucald_studies"), f"{module}: give {room} its place in ORDER"


def test_imports_run_down_but_for_few_that_are_listed():
    found = {(one, other) for one, other in arrows() if place(other) > place(one)}
    assert found == UP
    assert len(UP) <= 5


def test_no_family_knows_another_but_for_few_that_are_listed():
    def families(one: str, other: str) -> set[str | None]:
        return {family_of(one), family_of(other)}

    found = {(a, b) for a, b in arrows() if None not in families(a, b) and len(families(a, b)) > 1}
    assert found == OF_ANOTHER_FAMILY


def test_nothing_of_the_package_knows_what_is_inside_a_family():
    inside = {
        (one, other)
        for one, other in arrows()
        if one.startswith("mucald.") and family_of(one) is None and family_of(other) is not None
    }
    assert inside <= UP


def test_no_module_imports_itself_through_others():
    graph = {name: modules_imported(path, for_types=False) for name, path in NAMES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(reversed(error.args[1])))


def test_what_a_hospital_installs_knows_nothing_of_the_studies():
    assert not {one for one, other in arrows() if one.split(".")[0] == "mucald" != other.split(".")[0]}


def test_only_adapters_and_deployment_import_flare():
    users = {
        place(name_of(path))
        for path in MODULES
        if any(name.split(".")[0] == "nvflare" for name in imported(path))
        and name_of(path).split(".")[0] == "mucald"
    }
    assert users == {place("mucald.flare"), place("mucald.deploy")}


def test_a_room_holds_what_a_reader_takes_in_at_a_glance():
    folders = {path.parent for path in MODULES}
    for folder in folders:
        files = [path for path in folder.iterdir() if path.is_file() and path.suffix != ".pyc"]
        assert len(files) <= 15, f"{folder}: {len(files)} files"


def test_no_two_test_files_have_one_name():
    """pytest imports them by their names alone, and refuses the second."""
    names = [path.name for path in (REPOSITORY / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("path", [*MODULES, *TOOLS], ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_nothing_is_unpickled(path):
    assert not imported(path) & {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    calls = [node for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
    names = {ast.unparse(call.func) for call in calls}
    # With weights_only torch reads tensors and refuses everything else.
    unsafe = [
        call for call in calls if not any(ast.unparse(word) == "weights_only=True" for word in call.keywords)
    ]
    assert "torch.load" not in {ast.unparse(call.func) for call in unsafe}
    assert not names & {"pickle.loads", "eval", "exec"}
    assert not {name.split(".")[-1] for name in names} & {"read_pickle", "Unpickler"}
    assert not {word.arg for call in calls for word in call.keywords} & {"allow_pickle"}
