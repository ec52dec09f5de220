"""What a hospital hands over as files: their names, and any fault of one as an error that names it."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mucald.data.images.pictures import ENDINGS, RefusedError
from mucald.errors import DataError, MucaldError

VOLUME_ENDINGS = (".nii", ".nii.gz")
IMAGE_ENDINGS = (*ENDINGS, *VOLUME_ENDINGS)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever reading ``path`` raises into a :class:`DataError` that names it.

    Libraries raise errors of any class at damaged headers; none may end another site's run.
    """
    try:
        yield
    except MucaldError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: it does not exist", public=_UNREADABLE) from None
    except RefusedError as error:
        raise DataError(f"{path}: {error}", public="an image or mask file holds what is not read") from None
    except Exception as error:  # noqa: BLE001 - see above
        words = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{path}: cannot be read ({words}); copy or export it again", public=_UNREADABLE
        ) from None


_UNREADABLE = "an image or mask file is missing or unreadable"


def ending_of(name: str) -> str:
    """Return the ending of a file's name in lower case, such as ``.nii.gz``; empty where it has none."""
    lower = name.lower()
    return ".nii.gz" if lower.endswith(".nii.gz") else Path(lower).suffix


def is_nifti(path: Path) -> bool:
    """Return whether a file is NIfTI, by its name."""
    return ending_of(path.name) in VOLUME_ENDINGS


def same_form(name: str) -> str:
    """Return a name in the one form of Unicode (NFC) in which names are compared; macOS writes another."""
    return unicodedata.normalize("NFC", name)


def counted(names: Iterable[str]) -> str:
    """Return how many names there are of each ending, such as ``2 .webp, 1 without ending``."""
    endings = Counter(ending_of(name) or "without ending" for name in names)
    return ", ".join(f"{count} {ending}" for ending, count in sorted(endings.items()))
