"""The same as ``mucald contact-sheet``."""

from mucald.command_line import leave
from mucald_studies.commands.contact_sheet import main

if __name__ == "__main__":
    leave(main())
