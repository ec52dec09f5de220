"""MuCALD-FLARE: multi-task split-federated medical image segmentation on NVIDIA FLARE."""

__version__ = "0.1.0"
