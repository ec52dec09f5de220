"""The same as ``mucald new-job``."""

from mucald.command_line import leave
from mucald.commands.jobs.new_job import main

if __name__ == "__main__":
    leave(main())
