"""What a hospital hands over as files: their names, and any fault of one as an error that names it."""

import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mucald.errors import DataError, MucaldError

VOLUME_ENDINGS = (".nii", ".nii.gz")


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
    except Exception as error:  # noqa: BLE001 - see above
        from mucald.data.images.pictures import RefusedError  # NumPy, which other readers do without

        if isinstance(error, RefusedError):
            raise DataError(
                f"{path}: {error}", public="an image or mask file holds what is not read"
            ) from None
        if isinstance(error, OSError) and error.strerror:
            # Nothing is wrong with its content.
            raise DataError(f"{path}: cannot be read ({error.strerror})", public=_UNREADABLE) from None
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


def alike(name: str) -> str:
    """Return a name in the one form that all have which look the same: one case, single spaces."""
    shown = (sign for sign in unicodedata.normalize("NFKC", name) if unicodedata.category(sign) != "Cf")
    return " ".join("".join(shown).casefold().split())


def unused_in(folder: Path, names: Iterable[str]) -> list[str]:
    """Say how many files of a folder are not read, by their endings; hidden ones are no one's images.

    Args:
        folder: the folder.
        names: of what is not read in it; those of folders end with ``/``.
    """
    seen = [name for name in names if not name.startswith(".")]
    folders = sum(name.endswith("/") for name in seen)
    words = count(folders, f"folder in {folder.name}/ is", f"folders in {folder.name}/ are")
    return unread(seen, f"of {folder.name}/") + [f"{words} not read"] * bool(folders)


def unread(names: Iterable[str], where: str) -> list[str]:
    """Say how many files lie somewhere that are not read; arguments are as of :func:`unused_in`."""
    files = [name for name in names if not name.startswith(".") and not name.endswith("/")]
    endings = Counter(ending_of(name) or "without ending" for name in files)
    listed = ", ".join(f"{number} {ending}" for ending, number in sorted(endings.items()))
    return [f"{count(len(files), f'file {where} is', f'files {where} are')} not read: {listed}"] * bool(files)


def plain(value: float) -> str:
    """Return a number in four significant digits, or all before its point, without an exponent: "25 870"."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 3 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{digits}f}".replace(",", " ")
    return text.rstrip("0").rstrip(".") if digits else text


def count(number: int, one: str, many: str) -> str:
    """Return a number with the words for one, or for many."""
    return f"{number} {one if number == 1 else many}"
