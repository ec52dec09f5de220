"""The file that a hospital has to edit, ``<home>/site.json``: its task, where its images lie, and its secret.

Example: ``{"task": "kvasir", "root": "/data/kvasir", "layout": "pairs"}`` or, with a MONAI data list,
``{"task": "kvasir", "datalist": "datalist.json"}``. It never leaves the site.
"""

import os
import re
import secrets
from dataclasses import dataclass, replace
from pathlib import Path

from mucald.config.keys import key, section
from mucald.config.schema import parse, read_bytes, read_json
from mucald.data.files import reading
from mucald.errors import ConfigError, DataError
from mucald.tasks import get_task

SITE_FILE = "site.json"
SECRET_FILE = "noise_secret"
PATHS = ("root", "datalist")
"""The keys that name a file or folder, absolute or from the site file's own folder."""
SECRET_BYTES = 32
SHORTEST_SECRET = 16
FEWEST_CASES = 3

_PUBLIC = "the site's data file site.json is wrong"


@dataclass(frozen=True)
class SplitFractions:
    """Shares of the cases that are held out; the rest trains."""

    validation: float = key("share of the cases held out, where the layout gives no split", 0.15)
    test: float = key("the same, for the test", 0.2)

    def __post_init__(self) -> None:
        if min(self.validation, self.test) <= 0 or self.validation + self.test >= 1:
            raise ValueError("validation and test must be positive and leave something to train on")


@dataclass(frozen=True)
class SiteFile:
    """The content of ``site.json``; every field is one of its keys.

    Raises:
        ValueError: fields contradict each other or lie outside their range.
    """

    task: str = key("must be the task that the job gives the site", registry="mucald.tasks.TASKS")
    root: str | None = key("folder of the image set; goes with `layout`", None, allowed="a path")
    layout: str | None = key(
        "how files below `root` are named",
        None,
        registry="mucald.data.records.layouts.LAYOUTS",
        allowed="of an embedding set, which `root` names, `embeddings`",
    )
    datalist: str | None = key("MONAI data list, in place of `root` and `layout`", None, allowed="a path")
    images: str = key("folder of the images below `root` (`pairs`, `isic`)", "images")
    masks: str = key("folder of the masks below `root` (`pairs`, `isic`)", "masks")
    case_pattern: str | None = key(
        "what names the patient in a file's name without its ending; all images of a patient then fall into "
        "one split. Without it every file is a case of its own",
        None,
        allowed="a regular expression with one group",
    )
    mask_values: dict[str, int] = key(
        "class for a stored mask value; masks of two classes with 0 and 255 need none",
        {},
        allowed='such as `{"255": 1}`',
    )
    classes: str | None = key(
        "of tasks of classes: table with the columns `case` and `class`, below `root` (`nnunet`); `null` is "
        "`classes` in `dataset.json`, or else `classes.csv`",
        None,
        allowed="a path",
    )
    split: SplitFractions = section(SplitFractions)
    max_cases: int | None = key("use no more cases than that", None, allowed="≥ 3")
    tensorboard_images: bool = key("write example predictions into the site's own run folder", False)
    noise_secret: str | None = key(
        "what the private noise is drawn from; without it a random one is made in `<home>/noise_secret` "
        "(mode 600)",
        None,
        secret=True,
        allowed="16 characters or more",
    )

    def __post_init__(self) -> None:
        n_classes = get_task(self.task).n_classes
        if (self.root is None) == (self.datalist is None):
            raise ValueError("give either 'root' with 'layout', or 'datalist'")
        if (self.root is None) != (self.layout is None):
            raise ValueError("'root' and 'layout' go together")
        for stored, label in self.mask_values.items():
            if not _is_number(stored) or not 0 <= label < n_classes:
                raise ValueError(
                    f"'mask_values.{stored}' must map a number to a class id from 0 to {n_classes - 1}"
                )
        if self.case_pattern is not None and not _has_group(self.case_pattern):
            raise ValueError(
                "'case_pattern' must be a regular expression with one group, such as '^(d[0-9]+)_'"
            )
        if self.max_cases is not None and self.max_cases < FEWEST_CASES:
            raise ValueError(
                f"'max_cases' must be at least {FEWEST_CASES}: one each to train, validate and test"
            )
        if self.noise_secret is not None and len(self.noise_secret) < SHORTEST_SECRET:
            raise ValueError(f"'noise_secret' must have at least {SHORTEST_SECRET} characters")

    @property
    def value_map(self) -> dict[int, int]:
        """``mask_values`` with its keys as numbers."""
        return {int(stored): label for stored, label in self.mask_values.items()}


def has_site_file(home: Path) -> bool:
    """Return whether a site has images of its own; one whose site file cannot be reached has.

    A link that leads nowhere stands for a share that is not mounted, in whose place phantoms must not train.

    Raises:
        OSError: nobody can tell.
    """
    path = home / SITE_FILE
    return path.exists() or path.is_symlink() or (home.is_symlink() and not home.exists())


def read_site_file(path: Path) -> SiteFile:
    """Read a site file; paths in it that are not absolute are relative to its folder.

    Raises:
        DataError: the file is missing or not JSON, a key is unknown (the closest one is named) or missing, or
            a value has the wrong type or range.
    """
    try:
        with reading(path):
            content = parse(SiteFile, read_json(path))
    except ConfigError as error:
        raise DataError(f"{path}: {error}", public=_PUBLIC) from None

    def resolve(key: str) -> str | None:
        name: str | None = getattr(content, key)
        return None if name is None else absolute(path, key, name)

    return replace(content, root=resolve("root"), datalist=resolve("datalist"))


def absolute(path: Path, key: str, name: str) -> str:
    """Return a path that a site file names, which is absolute or from the site file's own folder.

    Args:
        path: the site file.
        key: of :data:`PATHS`.
        name: its value.

    Raises:
        DataError: the value begins with ``~`` and a user whom this machine does not know.
    """
    try:
        place = path.resolve().parent / Path(name).expanduser()
    except RuntimeError:
        raise DataError(
            f"{path}: '{key}': there is no home folder of {Path(name).parts[0]}; give the path in full",
            public=_PUBLIC,
        ) from None
    # Links keep their names, unless ".." may lead out of one.
    return str(place.resolve() if ".." in place.parts else place)


def noise_secret(site_file: SiteFile, home: Path) -> str:
    """Return what the site's private noise is drawn from.

    It is the site file's own, or else a random one that is made at first use and kept in
    ``<home>/noise_secret``, readable for its owner alone. The job's seed is known to the server, which could
    subtract any noise drawn from it.

    Raises:
        DataError: the kept secret is too short to be one, or no text.
    """
    if site_file.noise_secret is not None:
        return site_file.noise_secret
    path = home / SECRET_FILE
    if not path.exists():
        _write_secret(path)
    try:
        secret = read_bytes(path).decode("ascii").strip()
    except UnicodeDecodeError:
        secret = ""
    if len(secret) < SHORTEST_SECRET:
        raise DataError(
            f"{path}: holds no {SHORTEST_SECRET} ASCII characters; delete it and a new one is made",
            public="the site's noise secret is damaged",
        )
    return secret


def _write_secret(path: Path) -> None:
    """Write a new secret, unless another process does so first."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(secrets.token_hex(SECRET_BYTES))
        # Unlike a rename, a link never replaces the secret of a process that was faster.
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()


def _is_number(text: str) -> bool:
    return re.fullmatch("0|-?[1-9][0-9]*", text) is not None


def _has_group(pattern: str) -> bool:
    try:
        return re.compile(pattern).groups == 1
    except re.error:
        return False
