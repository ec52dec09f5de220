"""What each of the two distributions holds, and that it declares all it imports."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from tiny_job import REPOSITORY

CUSTOM = REPOSITORY / "custom"
STUDIES = CUSTOM / "mucald_studies"
FOR_RESEARCHERS = {"attacks", "benchmark", "discovery", "frontier", "reporting", "recording"}
IMPLIED = {"torch.utils.tensorboard": "tensorboard"}
"""What a module imports in turn without which it is of no use."""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> dict[str, set[str]]:
    """Build both wheels without an index, and return the names of their files."""
    folder = tmp_path_factory.mktemp("wheels")
    # Building leaves its own files beside the sources.
    source = shutil.copytree(CUSTOM, folder / "custom", ignore=shutil.ignore_patterns("*.egg-info", "build"))
    found = {}
    for name in ("mucald", "mucald_studies"):
        project = source if name == "mucald" else source / name
        options = ["--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", folder]
        subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", *options, project], check=True)
        (wheel,) = folder.glob(f"{name}-*.whl")
        with zipfile.ZipFile(wheel) as content:
            found[name] = {path for path in content.namelist() if ".dist-info/" not in path}
    return found


def shipped(folder: Path) -> set[str]:
    """Return the modules and data files below a package of the checkout, as a wheel names them."""
    paths = [path for path in folder.rglob("*") if path.suffix in (".py", ".json", ".md", ".html")]
    return {str(path.relative_to(CUSTOM)) for path in paths}


def test_what_a_hospital_installs_holds_nothing_for_researchers(wheels):
    names = wheels["mucald"]
    assert {name.split("/")[0] for name in names} == {"mucald"}
    parts = {part.removesuffix(".py") for name in names for part in name.split("/")}
    assert not parts & FOR_RESEARCHERS
    assert names == shipped(CUSTOM / "mucald") | {"mucald/py.typed"}
    assert any(name.endswith("/bases/mucald.json") for name in names)


def test_the_studies_hold_all_of_theirs_and_nothing_else(wheels):
    assert wheels["mucald_studies"] == shipped(STUDIES)
    assert "mucald_studies/reporting/templates/report.md" in wheels["mucald_studies"]


def imported(folder: Path) -> dict[str, Path]:
    """Return the full names of all that the modules below a folder import, each with one that does."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name: path for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found |= {f"{node.module}.{alias.name}": path for alias in node.names}
    return found


def third_parties(folder: Path) -> dict[str, Path]:
    """Return the distributions that modules below a folder import from, each with one that does."""
    known, ours, found = packages_distributions(), {path.stem for path in folder.glob("*.py")}, {}
    for name, path in imported(folder).items():
        top = name.split(".")[0]
        if top not in sys.stdlib_module_names and top not in ours:
            implied = [needed for module, needed in IMPLIED.items() if name.startswith(module)]
            found |= dict.fromkeys(implied, path) | {normal(known.get(top, [top])[0]): path}
    return found


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", name)[0]).lower()


def declared(project: Path) -> set[str]:
    content = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    extras = content["project"].get("optional-dependencies", {}).values()
    wanted = [*content["project"]["dependencies"], *(one for extra in extras for one in extra)]
    return {normal(dependency) for dependency in wanted}


@pytest.mark.parametrize(("project", "package"), [(CUSTOM, CUSTOM / "mucald"), (STUDIES, STUDIES)])
def test_a_distribution_declares_what_it_imports_and_imports_what_it_declares(project, package):
    used = third_parties(package)
    used.pop(normal(package.name), None)
    undeclared = {name: path for name, path in used.items() if name not in declared(project)}
    assert undeclared == {}
    assert declared(project) - used.keys() == set()


def test_tools_use_nothing_else():
    allowed = declared(CUSTOM) | declared(STUDIES) | {"mucald", "mucald-studies"}
    assert {
        name: path for name, path in third_parties(REPOSITORY / "tools").items() if name not in allowed
    } == {}


def test_a_checkout_installs_both():
    lines = (REPOSITORY / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert {"-e ./custom", "-e ./custom/mucald_studies"} <= set(lines)
    pinned = {normal(line) for line in lines if "==" in line}
    assert pinned <= declared(CUSTOM) | declared(STUDIES)
