"""What of images might be taken otherwise than their owner means, in words."""

from collections.abc import Sequence
from pathlib import Path

from mucald.data.files import is_nifti
from mucald.data.images.geometry import plausible
from mucald.data.images.pictures import RGB_CHANNELS
from mucald.data.images.stored import read_geometry
from mucald.errors import DataError
from mucald.inference.images import Input, each_once, named_files, parts
from mucald.tasks import Task


def remarks(paths: Sequence[Path], inputs: Sequence[Input], channels: bool, task: Task) -> list[str]:
    """Return what to say before images are segmented.

    Args:
        paths: see :func:`mucald.inference.images.find_inputs`.
        inputs: what it has returned for them.
        channels: as it was told.
        task: the model's.
    """
    words = []
    named = named_files(paths)
    files = each_once(named)
    if repeated := len(named) - len(files):
        words.append(f"{repeated} files are given again; each is segmented once")
    if not channels and (pair := _like_channels(files)):
        words.append(
            f"{pair[0]} and {pair[1].name} are segmented each by itself; if they are channels of one image, "
            "give --channels"
        )
    volumes = task.slices or task.input == "volume"
    if (dropped := sum(len(image.files) > RGB_CHANNELS for image in inputs)) and task.input != "volume":
        words.append(f"{dropped} images have more than three channels, of which the first three are read")
    if others := [image.files[0] for image in inputs if is_nifti(image.files[0]) != volumes]:
        what, other = ("pictures", "NIfTI volumes") if volumes else ("NIfTI volumes", "pictures")
        words.append(
            f"{len(others)} of {len(inputs)} images are {what}, such as {others[0]}, but the task "
            f"{task.title} is one of {other}: the model may not know what it sees"
        )
    strange = [(image.files[0], size) for image in inputs if not plausible(size := _spacing(image.files[0]))]
    if strange:
        path, size = strange[0]
        words.append(
            f"{len(strange)} of {len(inputs)} images have voxels of a strange size, such as {path} "
            f"({' x '.join(f'{side:.3g}' for side in size)} mm): check the headers' units, which areas follow"
        )
    return words


def _spacing(path: Path) -> tuple[float, ...]:
    """Sizes of a volume's voxels; none where no header tells them."""
    if not is_nifti(path):
        return ()
    try:
        return read_geometry(path).spacing or ()
    except DataError:
        return ()  # whoever reads the image says why it cannot be read


def _like_channels(files: Sequence[Path]) -> tuple[Path, Path] | None:
    """Return the first two files that are called as the channels of one image."""
    found = {parts(path, channels=True): path for path in files}
    for (name, number), path in found.items():
        if number == "0000" and (name, "0001") in found:
            return path, found[name, "0001"]
    return None
