"""The same as ``mucald check``."""

from mucald.command_line import leave
from mucald.commands.data.check import main

if __name__ == "__main__":
    leave(main())
