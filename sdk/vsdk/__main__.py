"""`python -m vsdk` is the same as the command `vsdk`."""

from .cli import main

main()
