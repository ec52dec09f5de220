"""The engine of a run, whatever the method: schedule, attendance, reports, checkpoints, results."""
