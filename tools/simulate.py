"""The same as ``mucald simulate``."""

from mucald.command_line import leave
from mucald.commands.jobs.simulate import main

if __name__ == "__main__":
    leave(main())
