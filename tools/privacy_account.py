"""The same as ``mucald account``."""

from mucald.command_line import leave
from mucald.commands.jobs.account import main

if __name__ == "__main__":
    leave(main())
