"""What a MONAI bundle says of a joined model, and how it runs it: plain JSON that needs MONAI alone."""

from typing import Any

import monai
import nibabel
import numpy as np
import torch

from mucald import __version__
from mucald.federation.method import TrainedModel

MODEL = "models/model.ts"
METADATA = "configs/metadata.json"
INFERENCE = "configs/inference.json"
INTENDED_USE = "research, not for diagnosis"


def metadata(model: TrainedModel) -> dict[str, Any]:
    """Return the content of ``configs/metadata.json``."""
    config, side, n_classes = model.config, model.config.data.image_size, model.task.n_classes
    return {
        "version": __version__,
        "changelog": {__version__: "exported from a run"},
        "monai_version": monai.__version__,
        "pytorch_version": torch.__version__,
        "numpy_version": np.__version__,
        "required_packages_version": {"nibabel": nibabel.__version__},
        "task": f"{model.task.title} segmentation",
        "description": f"Site '{model.site}', job '{config.name}': {model.description}.",
        "authors": f"run of the job '{config.name}'",
        "copyright": "of the participants of the run",
        "intended_use": INTENDED_USE,
        "network_data_format": {
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
        },
    }


def inference_config(model: TrainedModel) -> dict[str, Any]:
    """Return the content of ``configs/inference.json``.

    ``run`` segments the pictures of ``dataset_dir`` and writes masks of their size into ``output_dir``. It
    reads and resizes pictures as training does, with Pillow.
    """
    side = model.config.data.image_size
    resized = f"$lambda picture: picture.convert('RGB').resize(({side}, {side}), Image.Resampling.BILINEAR)"
    return {
        "imports": ["$import pathlib", "$from PIL import Image", "$import torch"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/masks'",
        "device": "$torch.device('cpu')",
        "pictures": (
            "$sorted(path for path in pathlib.Path(@dataset_dir).iterdir() "
            "if path.suffix.lower() in ('.png', '.jpg', '.jpeg', '.bmp'))"
        ),
        "network_def": f"$torch.jit.load(@bundle_root + '/{MODEL}', map_location=@device).eval()",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {
                    "_target_": "LoadImage",
                    "reader": "PILReader",
                    "converter": resized,
                    "reverse_indexing": False,
                    "image_only": True,
                },
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
        "size_of": "$lambda path: Image.open(path).size[::-1]",
        "predict": "$lambda path: @inferer(@preprocessing(path)[None], @network_def)",
        "upsample": (
            "$lambda logits, size: torch.nn.functional.interpolate("
            "logits, size=size, mode='bilinear', align_corners=False)"
        ),
        "mask_of": (
            "$lambda path: @upsample(@predict(path), @size_of(path))"
            ".argmax(dim=1)[0].to(torch.uint8).cpu().numpy()"
        ),
        "initialize": ["$pathlib.Path(@output_dir).mkdir(parents=True, exist_ok=True)"],
        "run": [
            "$[Image.fromarray(@mask_of(path)).save(pathlib.Path(@output_dir) / (path.stem + '.png')) "
            "for path in @pictures]"
        ],
    }
