"""What a run leaves: history, ``results.json``, tables, TensorBoard events."""
