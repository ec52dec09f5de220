"""What a job says: its file, its sections, and how JSON becomes dataclasses."""
