"""The JSON Schema describes exactly what `to_json` writes."""

from __future__ import annotations

import json
import typing
from dataclasses import fields
from importlib import resources
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from vsdk.events import (
    SCHEMA,
    End,
    Event,
    Mask,
    MemoryUpdate,
    Scene,
    SourceState,
    Start,
    Stats,
    from_dict,
    to_dict,
    to_json,
)

SCHEMA_FILE = json.loads(resources.files("vsdk").joinpath("events.schema.json").read_text("utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA_FILE)

counts = st.integers(0, 2**53)
seconds = st.floats(-1e9, 1e9)
starts = st.builds(Start, source=st.text(), bundle=st.text(), digest=st.text(), engine=st.text())
scenes = st.builds(
    Scene,
    index=counts,
    start_frame=counts,
    end_frame=counts,
    start=seconds,
    end=seconds,
    depth=st.none() | st.floats(0, 4),
)
ranges = st.none() | st.tuples(counts, counts)
updates = st.builds(
    MemoryUpdate, scene=counts, segment=counts, entries=counts, capacity=counts, merged=ranges, evicted=ranges
)
shares = st.floats(0, 1)
pixels = st.integers(0, 2**20).map(float)
masks = st.builds(
    Mask,
    frame=counts,
    time=seconds,
    object=st.integers(-(2**53), 2**53),
    score=shares,
    presence=shares,
    present=st.booleans(),
    box=st.none() | st.tuples(pixels, pixels, pixels, pixels),
    rle=st.fixed_dictionaries(
        {
            "size": st.lists(st.integers(1, 2**20), min_size=2, max_size=2),
            "counts": st.text(alphabet=[chr(code) for code in range(48, 112)], min_size=1),
        }
    ),
)
durations = st.floats(0, 1e9)
states = st.builds(
    SourceState,
    source=st.text(),
    state=st.sampled_from(["connecting", "live", "stalled", "reconnecting", "ended"]),
    generation=counts,
    frame=counts,
    attempt=counts,
    wait=durations,
    message=st.text(),
)
stats = st.builds(
    Stats,
    source=st.text(),
    frames=counts,
    dropped=counts,
    decode_errors=counts,
    reconnects=counts,
    generation=counts,
    frames_per_second=durations,
    latency_p50=st.none() | durations,
    latency_p95=st.none() | durations,
    seconds=durations,
)
ends = st.builds(
    End,
    reason=st.sampled_from(["end", "closed", "interrupted", "error"]),
    frames=counts,
    encoded=counts,
    scenes=counts,
    decode_errors=counts,
    message=st.text(),
)
events: st.SearchStrategy[Event] = st.one_of(starts, scenes, updates, masks, states, stats, ends)

EXAMPLES: dict[str, Event] = {
    "start": Start("a.mp4", "nano", "0" * 64, "onnxruntime 1.32 on cpu, fp32"),
    "scene": Scene(0, 0, 29, 0.0, 1.2, 0.8),
    "memory": MemoryUpdate(40, 40, 32, 32, merged=(3, 9)),
    "mask": Mask(12, 0.48, 1, 0.97, 0.99, True, (1.0, 0.0, 2.0, 2.0), {"size": [2, 3], "counts": "222"}),
    "source": SourceState("rtsp://***@10.0.0.7/main", "reconnecting", 2, 431, 1, 0.5, "Connection refused"),
    "stats": Stats("rtsp://***@10.0.0.7/main", 400, 31, 0, 2, 2, 14.9, 0.021, 0.034, 30.0),
    "end": End("end", 30, 10, 1),
}


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA_FILE)


@settings(deadline=None)
@given(events, st.none() | st.text())
def test_every_event_fits_the_schema_and_comes_back(event: Event, stream: str | None) -> None:
    line = to_json(event, stream)
    assert "\n" not in line
    content = json.loads(line)
    VALIDATOR.validate(content)
    again = from_dict(content)
    assert type(again) is type(event)
    for item in fields(event):
        before, after = getattr(event, item.name), getattr(again, item.name)
        if isinstance(before, float):
            assert after == pytest.approx(before, abs=5.1e-7)  # seconds are written in microseconds
        else:
            assert after == before
    assert to_dict(again, stream) == content
    assert next(iter(content)) == ("type" if stream is None else "stream")


def test_every_event_has_its_part_of_the_schema() -> None:
    kinds = {kind.type: kind for kind in typing.get_args(Event)}
    assert set(SCHEMA_FILE["$defs"]) == set(kinds) == set(EXAMPLES)
    assert {part["$ref"] for part in SCHEMA_FILE["oneOf"]} == {f"#/$defs/{name}" for name in kinds}
    for name, kind in kinds.items():
        part = SCHEMA_FILE["$defs"][name]
        written = {"type"} | {item.name for item in fields(kind) if item.metadata.get("json", True)}
        assert set(part["required"]) == written
        assert set(part["properties"]) == written | {"stream"}
        assert part["properties"]["type"]["const"] == name
    assert SCHEMA_FILE["$defs"]["start"]["properties"]["schema"]["const"] == SCHEMA


def changed(name: str, **changes: Any) -> dict[str, Any]:
    return {**to_dict(EXAMPLES[name]), **changes}


@pytest.mark.parametrize(
    "content",
    [
        changed("start", schema=2),
        changed("start", type="begin"),
        changed("scene", index=-1),
        changed("scene", start="0.0"),
        changed("scene", end_frame=1.5),
        changed("scene", picture=[0]),
        changed("scene", depth="deep"),
        changed("memory", merged=[3]),
        changed("memory", evicted=[0, -1]),
        changed("memory", segment=None),
        changed("mask", box=[0, 0, 1]),
        changed("mask", score=1.5),
        changed("mask", rle=None),
        changed("mask", rle={"size": [2, 3], "counts": [2, 2, 2]}),
        changed("mask", rle={"size": [2], "counts": "222"}),
        changed("mask", rle={"size": [2, 3], "counts": "2 2"}),
        changed("mask", mask=[[0, 1, 0], [0, 1, 0]]),
        changed("source", state="asleep"),
        changed("source", wait=-1.0),
        changed("source", message=None),
        changed("stats", dropped=None),
        changed("stats", latency_p50="slow"),
        changed("end", reason="tired"),
        changed("end", stream=3),
        {key: value for key, value in to_dict(EXAMPLES["end"]).items() if key != "frames"},
        {},
        [],
    ],
    ids=str,
)
def test_anything_else_is_refused(content: Any) -> None:
    assert not VALIDATOR.is_valid(content)
