"""The commands of ``tools/``, loaded into the tests' own process, which spares them a start of torch each."""

import importlib.util
import sys
from types import ModuleType

from tiny_job import REPOSITORY

# Some of them use each other.
sys.path.insert(0, str(REPOSITORY / "tools"))


def load_tool(name: str) -> ModuleType:
    """Return ``tools/<name>.py`` as a module; its ``main`` takes arguments and returns the exit status."""
    spec = importlib.util.spec_from_file_location(f"{name}_tool", REPOSITORY / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
