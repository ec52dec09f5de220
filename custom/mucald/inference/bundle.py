"""What a MONAI bundle says of a joined model, and how it runs it: plain JSON that needs MONAI alone."""

from typing import Any

import monai
import nibabel
import numpy as np
import PIL
import scipy
import torch

from mucald import __version__
from mucald.data.images import pictures
from mucald.federation.method import TrainedModel
from mucald.inference.volume_bundle import data_format, volume_inference

MODEL = "models/model.ts"
METADATA = "configs/metadata.json"
INFERENCE = "configs/inference.json"
READER = "scripts/pictures.py"
"""A copy of :mod:`mucald.data.images.pictures`, so that the bundle reads pictures as training does."""
INTENDED_USE = "research, not for diagnosis"


def metadata(model: TrainedModel) -> dict[str, Any]:
    """Return the content of ``configs/metadata.json``."""
    target = "segmentation" if model.task.target == "mask" else "classification"
    volume = model.task.input == "volume"
    readers = {"nibabel": nibabel.__version__, "scipy": scipy.__version__}
    reader = readers if volume else {"pillow": PIL.__version__}
    return {
        "version": __version__,
        "changelog": {__version__: "exported from a run"},
        "monai_version": monai.__version__,
        "pytorch_version": torch.__version__,
        "numpy_version": np.__version__,
        "required_packages_version": reader,
        "task": f"{model.task.title} {target}",
        "description": f"Site '{model.site}', job '{model.config.name}': {model.description}.",
        "authors": f"run of the job '{model.config.name}'",
        "copyright": "of the participants of the run",
        "intended_use": INTENDED_USE,
        "network_data_format": data_format(model) if volume else _picture_format(model),
    }


def _picture_format(model: TrainedModel) -> dict[str, Any]:
    side, n_classes = model.config.data.image_size, model.task.n_classes
    return {
        "inputs": {
            "image": {
                "type": "image",
                "format": "RGB",
                "modality": model.task.title,
                "num_channels": 3,
                "spatial_shape": [side, side],
                "dtype": "float32",
                "value_range": [0, 1],
                "is_patch_data": False,
                "channel_def": {"0": "red", "1": "green", "2": "blue"},
            }
        },
        "outputs": {
            "pred": {
                "type": "image",
                "format": "segmentation",
                "num_channels": n_classes,
                "spatial_shape": [side, side],
                "dtype": "float32",
                # Logits: the largest decides.
                "value_range": [],
                "is_patch_data": False,
                "channel_def": {str(label): name for label, name in enumerate(model.task.classes)},
            }
        },
    }


def inference_config(model: TrainedModel) -> dict[str, Any]:
    """Return the content of ``configs/inference.json``.

    ``run`` segments the pictures of ``dataset_dir`` and writes masks of their size into ``output_dir``. It
    reads and resizes pictures as training does, names the files that it does not read, and stops at a picture
    that training would refuse. Of volumes see :func:`mucald.inference.volume_bundle.volume_inference`.
    """
    if model.task.input == "volume":
        return volume_inference(model, MODEL)
    side = model.config.data.image_size
    resize = f"$lambda array: Image.fromarray(array).resize(({side}, {side}), Image.Resampling.BILINEAR)"
    is_picture = f"$lambda path: path.suffix.lower() in {pictures.ENDINGS}"
    return {
        "imports": [
            "$import pathlib",
            "$import runpy",
            "$import numpy",
            "$from PIL import Image",
            "$import torch",
        ],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/masks'",
        "device": "$torch.device('cpu')",
        "is_picture": is_picture,
        "files": "$sorted(path for path in pathlib.Path(@dataset_dir).iterdir() if path.is_file())",
        "pictures": "$[path for path in @files if @is_picture(path)]",
        "read": f"$runpy.run_path(@bundle_root + '/{READER}')['read_picture']",
        "resize": resize,
        "network_def": f"$torch.jit.load(@bundle_root + '/{MODEL}', map_location=@device).eval()",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Lambda", "func": "$lambda array: numpy.array(@resize(array))"},
                {"_target_": "EnsureChannelFirst", "channel_dim": -1},
                {
                    "_target_": "ScaleIntensityRange",
                    "a_min": 0,
                    "a_max": 255,
                    "b_min": 0,
                    "b_max": 1,
                },
                {
                    "_target_": "EnsureType",
                    "track_meta": False,
                    "dtype": "$torch.float32",
                    "device": "@device",
                },
            ],
        },
        "inferer": {"_target_": "SimpleInferer"},
        "predict": "$lambda array: @inferer(@preprocessing(array)[None], @network_def)",
        "upsample": (
            "$lambda logits, size: torch.nn.functional.interpolate("
            "logits, size=size, mode='bilinear', align_corners=False)"
        ),
        "mask_of": (
            "$lambda array: @upsample(@predict(array), array.shape[:2])"
            ".argmax(dim=1)[0].to(torch.uint8).cpu().numpy()"
        ),
        "initialize": [
            "$pathlib.Path(@output_dir).mkdir(parents=True, exist_ok=True)",
            "$[print('not read:', path.name) for path in @files if not @is_picture(path)]",
        ],
        "run": [
            "$[Image.fromarray(@mask_of(@read(path))).save(pathlib.Path(@output_dir) / (path.stem + '.png')) "
            "for path in @pictures]"
        ],
    }
