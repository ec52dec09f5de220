"""From a job folder of the repository to what is submitted: configuration alone, or with the code in it."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mucald
from mucald.config.job import CONFIG_FILE
from mucald.config.merge import overridden
from mucald.errors import ConfigError, WorkspaceError
from mucald.methods.jobs import META_FILE, app_of, load_job, parse_config

SIGNATURES = ".__nvfl_*"
"""Files that FLARE adds to a job folder when it submits it."""
_PACKAGE = Path(mucald.__file__).parent


def export_job(job: Path, out: Path, code: bool = False, force: bool = False, **changes: Any) -> Path:
    """Write a job as it is submitted: its configuration whole, so that a hospital can check every value.

    Args:
        job: a job folder.
        out: the folder to write; its parent exists or is made.
        code: put this package under ``app/custom``, for sites that allow custom code and have it not
            installed. FLARE takes any file there for custom code, hence without ``code`` there is none.
        force: replace a job folder ``out``.
        changes: keys of ``mucald.json`` to set, such as ``resume_from``.

    Returns:
        ``out``.

    Raises:
        ConfigError: the job is wrong or brings code of its own.
        WorkspaceError: see :func:`make_room`.
    """
    content = parse_config(overridden(load_job(job)[0].to_dict(), changes)).to_dict()
    make_room(out, job, force)
    app, _ = app_of(job)
    if own := sorted((job / app / "custom").rglob("*.py")):
        raise ConfigError(f"{own[0]}: code of a job's own is not submitted; move it into the package")
    # Links are followed, because FLARE refuses them.
    shutil.copytree(job / app / "config", out / app / "config", ignore=shutil.ignore_patterns(SIGNATURES))
    shutil.copyfile(job / META_FILE, out / META_FILE)
    path = out / app / "config" / CONFIG_FILE
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    if code:
        ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
        shutil.copytree(_PACKAGE, out / app / "custom" / _PACKAGE.name, ignore=ignore)
    load_job(out)
    return out


def make_room(out: Path, job: Path, force: bool) -> None:
    """Make sure that there is no folder ``out``, where a job made of ``job`` is to be written.

    Raises:
        WorkspaceError: there is one, and it may not be replaced, is no job folder, or holds ``job``.
    """
    if not out.exists():
        return
    if not force:
        raise WorkspaceError(f"{out} exists; give another folder, or --force to replace it")
    if not (out / META_FILE).is_file() or job.resolve().is_relative_to(out.resolve()):
        raise WorkspaceError(f"{out} is no job folder, or holds the job to copy; give another folder")
    shutil.rmtree(out)


@contextmanager
def exported(job: Path, code: bool = False, **changes: Any) -> Iterator[Path]:
    """Write a job as it is submitted into a temporary folder of the job's name (:func:`export_job`)."""
    with tempfile.TemporaryDirectory() as folder:
        yield export_job(job, Path(folder) / load_job(job)[0].name, code, **changes)
