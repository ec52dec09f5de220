"""The same as ``mucald phantoms``."""

from mucald.command_line import leave
from mucald.commands.data.phantoms import main

if __name__ == "__main__":
    leave(main())
