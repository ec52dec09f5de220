"""The same as ``mucald hold-out``."""

from mucald.command_line import leave
from mucald_studies.commands.hold_out import main

if __name__ == "__main__":
    leave(main())
