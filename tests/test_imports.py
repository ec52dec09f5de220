"""Who may import whom: FLARE stays behind its adapters, and the mathematics knows no protocol."""

import ast

import pytest
from tiny_job import REPOSITORY

PACKAGE = REPOSITORY / "custom" / "mucald"
MODULES = sorted(PACKAGE.rglob("*.py"))
TOOLS = sorted((REPOSITORY / "tools").glob("*.py"))
MATHEMATICS = (
    "aggregation",
    "algorithms",
    "crdm",
    "daca",
    "data",
    "discovery",
    "losses",
    "metrics",
    "nets",
    "privacy",
    "tasks",
    "randomness",
)

# Benchmarks stand above FLARE's adapters, and nothing may need them.
USERS_OF_FLARE = ("flare", "benchmark")

# They examine whole runs from outside, so they stand above the protocol, and no part of a run may need them.
EXAMINERS = ("privacy/recording.py", "privacy/attacks/", "privacy/frontier/")


def examines(path) -> bool:
    return str(path.relative_to(PACKAGE)).startswith(EXAMINERS)


def imported(path) -> set[str]:
    """Return the full names of all that a module imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    forbidden = []
    if part not in USERS_OF_FLARE:
        forbidden += ["nvflare", "mucald.flare"]
    if part != "benchmark":
        forbidden += ["mucald_studies.benchmark"]
    if part in MATHEMATICS and not examines(path):
        forbidden += ["mucald.split"]
    if not examines(path):
        forbidden += ["mucald_studies.recording", "mucald_studies.attacks"]
    for name in imported(path):
        assert not any(f"{name}.".startswith(f"{root}.") for root in forbidden), f"{path.name} imports {name}"


def test_the_adapters_and_the_benchmarks_are_the_ones_that_import_flare():
    users = {path.parent.name for path in MODULES if any(n.startswith("nvflare.") for n in imported(path))}
    assert users == set(USERS_OF_FLARE)


@pytest.mark.parametrize("path", [*MODULES, *TOOLS], ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_nothing_is_unpickled(path):
    assert not imported(path) & {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    calls = [
        node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)
    ]
    names = {ast.unparse(call.func) for call in calls}
    assert not names & {"torch.load", "pickle.loads", "eval", "exec"}
    assert not {name.split(".")[-1] for name in names} & {"read_pickle", "Unpickler"}
    assert not {word.arg for call in calls for word in call.keywords} & {"allow_pickle"}
