"""The `nano` family: small models trained here, on procedural video only, that ship inside the package."""
