"""How volumes of a site would best be made to fit a network: spacing, patch, intensities, as nnU-Net plans.

Every site makes a plan of its own data; the job then says one for all, see ``data.volumes.plans``.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mucald.config.common import VolumePlan
from mucald.data.volumes.intensity import CT
from mucald.data.volumes.resampling import resampled_shape
from mucald.data.volumes.survey import VolumeSurvey
from mucald.errors import DataError

PATCH_VOXELS = 128 * 128 * 32
_UNLIKE = 2.0
"""A job's spacing that is so many times the site's median, or its inverse, is remarked."""
_LOST = 0.05
"""Share of the foreground outside a job's range of intensities that is remarked."""


def plan_of(found: VolumeSurvey, divisor: int, most_voxels: int = PATCH_VOXELS) -> VolumePlan:
    """Return the plan of a site's volumes.

    The spacing is the median. The patch has the median's extent, in multiples of ``divisor``; while it is
    too large, the side that covers most of the median is shortened. Intensities of CT are kept between the
    0.5 and 99.5 percentile of the foreground.

    Args:
        found: the volumes.
        divisor: what every side of a patch is a multiple of, 2 to the power of the network's levels - 1.
        most_voxels: of a patch.

    Raises:
        DataError: no volume can be read, or none of CT has foreground.
    """
    if not found.images:
        raise DataError("no volume can be read, so that nothing can be planned")
    spacing = np.median(found.spacings(), axis=0)
    shapes = [resampled_shape(case.shape, case.spacing, spacing.tolist()) for case in found.images]
    median = np.median(shapes, axis=0)
    return VolumePlan(
        spacing=tuple(float(f"{size:.4g}") for size in spacing),
        patch_size=_patch(median.tolist(), divisor, most_voxels),
        intensity=_intensity(found) if found.task.modality == CT else (),
    )


def _patch(median: Sequence[float], divisor: int, most_voxels: int) -> tuple[int, ...]:
    size = [max(1, math.ceil(n / divisor)) * divisor for n in median]
    while math.prod(size) > most_voxels:
        covered = [n / whole if n > divisor else 0.0 for n, whole in zip(size, median, strict=True)]
        if not any(covered):
            break
        size[covered.index(max(covered))] -= divisor
    return tuple(size)


def _intensity(found: VolumeSurvey) -> tuple[float, ...]:
    samples = _samples(found)
    if not len(samples):
        raise DataError("no mask holds a class but the background, so that intensities cannot be planned")
    low, high = np.percentile(samples, (0.5, 99.5))
    kept = np.clip(samples, low, high)
    mean, deviation = float(kept.mean(dtype=np.float64)), float(kept.std(dtype=np.float64))
    # Of a constant nothing is known.
    numbers = (low, max(high, low + 1), mean, max(deviation, 1e-3))
    return tuple(float(f"{number:.5g}") for number in numbers)


def _samples(found: VolumeSurvey) -> NDArray[np.float32]:
    return np.concatenate([case.samples for case in found.images])


def lacking(found: VolumeSurvey, job: VolumePlan, divisor: int) -> list[str]:
    """Return what a job's plan lacks or has wrong, so that the site cannot train by it."""
    name = f"data.volumes.plans.{found.task.name}"
    words = [] if job.spacing else [f"the job does not say {name}.spacing"]
    if found.task.modality == CT and not job.intensity:
        words.append(f"the job does not say {name}.intensity")
    if odd := [n for n in job.patch_size if n % divisor]:
        words.append(
            f"the job's patch size {_by(job.patch_size)} has the side {odd[0]}, no multiple of {divisor}"
        )
    return words


def unlike(found: VolumeSurvey, job: VolumePlan) -> list[str]:
    """Return in words where a job's plan fits a site's volumes badly."""
    words = []
    own = np.median(found.spacings(), axis=0)
    if job.spacing and (ratio := np.maximum(own / job.spacing, job.spacing / own)).max() > _UNLIKE:
        words.append(
            f"the job's spacing is {_by(job.spacing)} mm, the median here {_by(own.round(3).tolist())} mm: "
            f"along an axis one is {ratio.max():.2g} times the other"
        )
    if job.intensity:
        samples = _samples(found)
        outside = (samples < job.intensity[0]) | (samples > job.intensity[1])
        lost = float(outside.mean()) if len(samples) else 0.0
        if lost > _LOST:
            words.append(
                f"{lost:.0%} of the foreground lies outside the job's intensities, {job.intensity[0]:g} to "
                f"{job.intensity[1]:g}"
            )
    if job.spacing:
        shapes = [resampled_shape(case.shape, case.spacing, job.spacing) for case in found.images]
        small = sum((2 * np.array(shape) < job.patch_size).any() for shape in shapes)
        if small:
            words.append(
                f"{small} of {len(shapes)} volumes are less than half the patch {_by(job.patch_size)} along "
                "an axis: most of a patch is padding"
            )
    return words


def _by(numbers: Sequence[float]) -> str:
    return " x ".join(f"{number:g}" for number in numbers)
