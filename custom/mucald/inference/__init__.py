"""After training: a site's joined model on new images, and the same model as TorchScript and MONAI bundle."""
