"""The same as ``mucald export``."""

from mucald.command_line import leave
from mucald.commands.models.export import main

if __name__ == "__main__":
    leave(main())
