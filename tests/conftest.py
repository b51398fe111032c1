"""What holds for all tests."""

from hypothesis import settings

# The same examples everywhere and no time limit for one: a slow machine is no fault, and a failure can be repeated.
settings.register_profile("vsdk", deadline=None, derandomize=True)
settings.load_profile("vsdk")
