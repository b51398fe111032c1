"""JSON lines as a test reads them: each is of the schema, and together they are a stream."""

from __future__ import annotations

import json
from collections import defaultdict
from importlib.resources import files
from itertools import pairwise
from typing import Any

import jsonschema


def lines_of(text: str) -> list[dict[str, Any]]:
    """Events of JSON lines; each is valid, the first is `start`, the last is `end`, scenes tile the stream."""
    validator = jsonschema.Draft202012Validator(json.loads(files("vsdk").joinpath("events.schema.json").read_text()))
    events = [json.loads(line) for line in text.splitlines()]
    for event in events:
        validator.validate(event)
    assert events[0]["type"] == "start"
    assert events[-1]["type"] == "end"
    scenes = [event for event in events if event["type"] == "scene"]
    memories = [event for event in events if event["type"] == "memory"]
    assert len(scenes) == len(events) - len(memories) - 2 == events[-1]["scenes"]
    assert [event["scene"] for event in memories] in ([], [scene["index"] for scene in scenes])
    assert [scene["index"] for scene in scenes] == list(range(len(scenes)))
    for before, after in pairwise(scenes):
        assert after["start_frame"] == before["end_frame"] + 1
        assert after["start"] == before["end"]
    return events


def lines_of_streams(text: str) -> dict[str, list[dict[str, Any]]]:
    """Lines of several streams sorted out; those of each are as if it had run alone."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in text.splitlines():
        assert line.startswith('{"stream":')
        content = json.loads(line)
        found[content.pop("stream")].append(json.dumps(content))
    return {name: lines_of("\n".join(lines)) for name, lines in found.items()}
