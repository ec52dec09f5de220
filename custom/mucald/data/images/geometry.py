"""What an image file tells of its pixels' size."""

from pathlib import Path

_MM_PER_UNIT = {"meter": 1000.0, "micron": 0.001}


def is_nifti(path: Path) -> bool:
    """Return whether a file is NIfTI, by its name."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def spacing_mm(path: Path) -> tuple[float, ...] | None:
    """Return the size of a pixel or voxel in mm along the first three axes of the stored array.

    Only NIfTI files tell it; a unit that the header leaves open is read as mm, as NIfTI readers do.

    Returns:
        two or three sizes, or None where the file tells none.
    """
    if not is_nifti(path):
        return None
    import nibabel  # only sites with NIfTI files pay for its import

    header = nibabel.load(path).header
    scale = _MM_PER_UNIT.get(header.get_xyzt_units()[0], 1.0)
    sizes = tuple(float(size) * scale for size in header.get_zooms()[:3])
    return sizes if all(0 < size < float("inf") for size in sizes) else None
