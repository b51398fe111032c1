"""The public namespace and the error tree are what their documentation says."""

from __future__ import annotations

import inspect
import re

import vsdk
import vsdk.errors
import vsdk_runtimes
import vsdk_runtimes.errors


def test_every_public_name_resolves() -> None:
    assert set(vsdk.__all__) == set(vsdk._WHERE)
    assert vsdk.__all__ == sorted(vsdk.__all__)
    for name in vsdk.__all__:
        assert getattr(vsdk, name) is not None
    assert set(vsdk.__all__) <= set(dir(vsdk))


def test_every_public_name_of_the_runtimes_resolves() -> None:
    for name in vsdk_runtimes.__all__:
        assert getattr(vsdk_runtimes, name) is not None


def test_every_public_class_and_function_is_documented() -> None:
    for name in vsdk.__all__:
        item = getattr(vsdk, name)
        if inspect.isclass(item) or inspect.isfunction(item):
            assert inspect.getdoc(item), f"vsdk.{name} has no docstring"


def test_the_error_tree_is_the_one_that_is_drawn() -> None:
    """Each line of the drawing gives a class; the column where its name starts gives its parent."""
    documentation = vsdk_runtimes.errors.__doc__
    assert documentation is not None
    drawn: dict[str, str | None] = {}
    path: list[tuple[int, str]] = []
    for line in documentation.split("```")[1].splitlines():
        found = re.match(r"([│├└─ ]*)([A-Z]\w+)", line)
        if found is None:
            continue
        column, name = len(found[1]), found[2]
        while path and path[-1][0] >= column:
            path.pop()
        drawn[name] = path[-1][1] if path else None
        path.append((column, name))
    module = vars(vsdk_runtimes.errors)
    real = {
        name: next((base.__name__ for base in item.__bases__ if issubclass(base, vsdk_runtimes.errors.Error)), None)
        for name, item in module.items()
        if inspect.isclass(item) and issubclass(item, vsdk_runtimes.errors.Error)
    }
    assert drawn == real


def test_the_sdk_reexports_the_whole_tree() -> None:
    tree = {name for name, item in vars(vsdk_runtimes.errors).items() if inspect.isclass(item)}
    assert set(vsdk.errors.__all__) == tree
    assert all(getattr(vsdk.errors, name) is getattr(vsdk_runtimes.errors, name) for name in tree)
