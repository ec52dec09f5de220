"""The same as ``mucald show-job``."""

from mucald.command_line import leave
from mucald.commands.jobs.show_job import main

if __name__ == "__main__":
    leave(main())
