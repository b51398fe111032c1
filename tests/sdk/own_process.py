"""Measuring memory in a process that has done nothing else: that of the tests has whatever they left behind."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")


def in_own_process(function: Callable[..., Result], *arguments: Any) -> Result:
    """What a function of a module gives, called in a fresh interpreter; its exceptions are raised here."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)
