"""What is kept on disk: checkpoints and the tensors in them."""
