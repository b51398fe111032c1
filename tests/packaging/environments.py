"""Fresh environments with other versions of Python, as a device would have them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def interpreter(version: str) -> str:
    """A Python of this version that really starts: the running one, one on the path, or one of pyenv's."""
    candidates = [sys.executable, shutil.which(f"python{version}")]
    candidates += map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    for candidate in filter(None, candidates):
        check = [candidate, "-c", "import venv, ensurepip, sys; print('%d.%d' % sys.version_info[:2])"]
        done = subprocess.run(check, capture_output=True, text=True, check=False)
        if done.returncode == 0 and done.stdout.strip() == version:
            return candidate
    pytest.skip(f"there is no Python {version} here")


def run(*command: str | Path, cwd: Path) -> str:
    """What a command prints; it has to succeed."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def environment(version: str, folder: Path, *packages: str) -> Path:
    """The interpreter of a new environment with these packages, and no constraints."""
    run(interpreter(version), "-m", "venv", folder, cwd=folder.parent)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages, cwd=folder.parent)
    return python
