"""The tasks that a site can have. A task is one entry here."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mucald.config.schema import closest
from mucald.errors import ConfigError
from mucald.tasks.augmentation import CT, DERMOSCOPY, ENDOSCOPY, MICROSCOPY, NONE, ULTRASOUND, Augmentation

Input = Literal["image", "volume", "embedding"]
Target = Literal["mask", "class"]


@dataclass(frozen=True)
class Task:
    """What a site learns.

    Args:
        name: how jobs and site files call it.
        title: how tables and pictures call it.
        classes: their names in the order of their numbers; of masks background first.
        input: what a sample is.
        target: what is told of it: a class for every pixel, or one for the sample.
        augmentation: how samples may change at random in training.
        slices: whether images are slices of volumes, such as CT, rather than pictures.
        channels: how many an image or volume has as a network takes it.
        modality: what volumes are taken with, such as ``CT`` or ``MR``; sites of one modality may share what
            adapts a network to it.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    input: Input = "image"
    target: Target = "mask"
    augmentation: Augmentation = NONE
    slices: bool = False
    channels: int = 3
    modality: str = ""

    @property
    def n_classes(self) -> int:
        """Number of classes, background included."""
        return len(self.classes)


def _volume(
    name: str,
    title: str,
    classes: tuple[str, ...],
    modality: str,
    target: Target = "mask",
    channels: int = 1,
) -> Task:
    return Task(name, title, classes, "volume", target, channels=channels, modality=modality)


def _embedding(name: str, title: str, classes: tuple[str, ...]) -> Task:
    return Task(name, title, classes, "embedding", "class")


_IMAGES = (
    Task(
        "blastocyst",
        "Blastocyst",
        ("background", "zona pellucida", "trophectoderm", "inner cell mass", "blastocoel"),
        augmentation=MICROSCOPY,
    ),
    Task("ham10k", "HAM10K skin lesion", ("background", "lesion"), augmentation=DERMOSCOPY),
    Task(
        "fetal",
        "Fetal head and pubic symphysis",
        ("background", "pubic symphysis", "fetal head"),
        augmentation=ULTRASOUND,
    ),
    Task("mosmed", "MosMed COVID-19 CT", ("background", "infection"), augmentation=CT, slices=True),
    Task("kvasir", "Kvasir polyp", ("background", "polyp"), augmentation=ENDOSCOPY),
    # The two below are not of the paper.
    Task("wbc", "White blood cell", ("background", "cytoplasm", "nucleus"), augmentation=MICROSCOPY),
    Task("fetal_head", "Fetal head", ("background", "head"), augmentation=ULTRASOUND),
)

_TASKS = (
    *_IMAGES,
    # Volumes.
    _volume("liver", "Liver and tumour, CT", ("background", "liver", "tumour"), "CT"),
    _volume("lungs", "Lungs and nodules, CT", ("background", "lung", "nodule"), "CT"),
    _volume("kidneys", "Kidneys and tumour, CT", ("background", "kidney", "tumour"), "CT"),
    _volume("heart", "Heart, MR", ("background", "right ventricle", "myocardium", "left ventricle"), "MR"),
    _volume(
        "brain",
        "Brain tumour, MR of four sequences",
        ("background", "oedema", "tumour core", "enhancing tumour"),
        "MR4",
        channels=4,
    ),
    # Normal, dilated, hypertrophic, infarcted, abnormal right ventricle (ACDC; Bernard et al., TMI 2018).
    _volume("heart_pathology", "Heart disease, MR", ("NOR", "DCM", "HCM", "MINF", "RV"), "MR", "class"),
    _volume("liver_lesion", "Liver lesion, CT", ("none", "cyst", "tumour"), "CT", "class"),
    # Embeddings.
    _embedding("phantom_kind", "Kind of phantom", tuple(task.name for task in _IMAGES)),
    _embedding("brain_tumour", "Brain tumour, MR slice", ("glioma", "meningioma", "none", "pituitary")),
    _embedding(
        "white_cell",
        "Kind of white blood cell",
        ("neutrophil", "lymphocyte", "monocyte", "eosinophil", "basophil"),
    ),
    # MedMNIST's OrganSMNIST, and WILDS' Camelyon17.
    _embedding(
        "organ",
        "Abdominal organ, CT slice",
        (
            "bladder",
            "femur left",
            "femur right",
            "heart",
            "kidney left",
            "kidney right",
            "liver",
            "lung left",
            "lung right",
            "pancreas",
            "spleen",
        ),
    ),
    _embedding("lymph_node", "Metastasis in a lymph node", ("normal", "tumour")),
)

TASKS: dict[str, Task] = {task.name: task for task in _TASKS}


def get_task(name: str) -> Task:
    """Return the task called ``name``.

    Raises:
        ConfigError: there is none; the message names the closest and all known ones.
    """
    if name not in TASKS:
        raise ConfigError(f"unknown task '{name}'{_meant(name)} (known: {', '.join(TASKS)})")
    return TASKS[name]


def _meant(name: str) -> str:
    """Return the task whose name is nearest, or else that with the nearest word in its title or classes."""
    if nearest := closest(name, list(TASKS)):
        return nearest
    # Shorter words are such as "and" and "of".
    words = {
        word.casefold(): task.name
        for task in reversed(TASKS.values())
        for word in re.findall(r"[\w-]{4,}", " ".join((task.title, *task.classes)))
    }
    found = difflib.get_close_matches(name.casefold(), words, n=1, cutoff=0.7)
    return f"; did you mean '{words[found[0]]}' ({TASKS[words[found[0]]].title})?" if found else ""


def shared_classes(tasks: Mapping[str, str]) -> int:
    """Return how many classes a back end has that sites share.

    Args:
        tasks: names of the sites' tasks by site; at least one.

    Raises:
        ConfigError: the tasks have not equally many.
    """
    counts = {site: get_task(task).n_classes for site, task in tasks.items()}
    if len(set(counts.values())) > 1:
        raise ConfigError(
            f"sites that share a back end need equally many classes, not {counts}; give them one task, or a "
            "'group' each"
        )
    return next(iter(counts.values()))
