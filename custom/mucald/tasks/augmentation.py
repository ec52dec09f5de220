"""How far images of a modality may change at random in training and still mean the same."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Augmentation:
    """Bounds of random changes; whatever is 0 or False is never done.

    Colours are left alone: hue and saturation tell stains, lesions and vessels apart.

    Args:
        mirrored: left and right may change places.
        any_way_up: the image has no upper side; it may be upside down, and turned by 90 degrees.
        angle: rotation either way, degrees.
        scale: enlargement or reduction, as a share of the size.
        shift: along either axis, as a share of the side.
        brightness: of all channels alike, as a share of the intensity.
        contrast: stretch about the image's mean, as a share of it.
        gamma: distance of the exponent from 1.
        noise: standard deviation of Gaussian noise on intensities in [0, 1].
        low_resolution: share of the resolution that is lost.
    """

    mirrored: bool = False
    any_way_up: bool = False
    angle: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    gamma: float = 0.0
    noise: float = 0.0
    low_resolution: float = 0.0


NONE = Augmentation()

MICROSCOPY = Augmentation(
    mirrored=True,
    any_way_up=True,
    angle=45,
    scale=0.15,
    shift=0.1,
    brightness=0.15,
    contrast=0.25,
    gamma=0.25,
    noise=0.03,
    low_resolution=0.5,
)
DERMOSCOPY = Augmentation(
    mirrored=True,
    any_way_up=True,
    angle=45,
    scale=0.2,
    shift=0.1,
    brightness=0.15,
    contrast=0.25,
    gamma=0.25,
    noise=0.03,
    low_resolution=0.5,
)
# The tube turns freely in the bowel; the light is as far away as the wall.
ENDOSCOPY = Augmentation(
    mirrored=True,
    any_way_up=True,
    angle=45,
    scale=0.25,
    shift=0.15,
    brightness=0.25,
    contrast=0.3,
    gamma=0.3,
    noise=0.03,
    low_resolution=0.5,
)
# The probe is always above, and shadows fall away from it.
ULTRASOUND = Augmentation(
    mirrored=True,
    angle=15,
    scale=0.2,
    shift=0.1,
    brightness=0.2,
    contrast=0.25,
    gamma=0.3,
    noise=0.05,
    low_resolution=0.5,
)
# A patient lies on the back, and after windowing a grey level is a density.
CT = Augmentation(
    mirrored=True,
    angle=15,
    scale=0.15,
    shift=0.1,
    brightness=0.05,
    contrast=0.1,
    noise=0.03,
    low_resolution=0.5,
)
