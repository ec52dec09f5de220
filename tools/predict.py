"""The same as ``mucald predict``."""

from mucald.command_line import leave
from mucald.commands.models.predict import main

if __name__ == "__main__":
    leave(main())
