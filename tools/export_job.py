"""The same as ``mucald export-job``."""

from mucald.command_line import leave
from mucald.commands.sites.export_job import main

if __name__ == "__main__":
    leave(main())
