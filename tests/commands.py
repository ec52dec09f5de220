"""The commands, loaded into the tests' own process, which spares them a start of torch each."""

import importlib.util
import sys
from types import ModuleType

from tiny_job import REPOSITORY


def load_tool(name: str) -> ModuleType:
    """Return what ``tools/<name>.py`` runs, which may be itself, as a module.

    Its ``main`` takes arguments and returns the exit status.
    """
    spec = importlib.util.spec_from_file_location(f"{name}_tool", REPOSITORY / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return sys.modules.get(module.main.__module__, module)
