"""The same as ``mucald site-files``."""

from mucald.command_line import leave
from mucald.commands.data.site_files import main

if __name__ == "__main__":
    leave(main())
