"""Volumes with masks or one class each: reading, planning, patches, and their phantoms."""
