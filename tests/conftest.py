"""What holds for all tests."""

import os

from hypothesis import settings

# A terminal's size in the environment, as processes of tests beside each other have it, would be that of every console
# that is made while it is there.
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)

# The same examples everywhere and no time limit for one: a slow machine is no fault, and a failure can be repeated.
settings.register_profile("vsdk", deadline=None, derandomize=True)
settings.load_profile("vsdk")
