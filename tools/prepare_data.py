"""The same as ``mucald prepare``."""

from mucald.command_line import leave
from mucald.commands.data.prepare import main

if __name__ == "__main__":
    leave(main())
