"""Several streams in one process: they give what separate ones give, and do not disturb each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from test_stream import no_threads_left, pictures
from video_tools import write_video

import vsdk

LENGTHS = ((40, 30, 35), (20, 45), (25, 25, 25))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three clips with two or three scenes each, H.264."""
    folder = tmp_path_factory.mktemp("streams")
    return {
        str(lengths): write_video(folder / f"{number}.mp4", pictures(lengths), rate=25)
        for number, lengths in enumerate(LENGTHS)
    }


def sorted_out(events: Iterable[vsdk.StreamEvent]) -> dict[str, list[vsdk.Event]]:
    """The events of each stream."""
    found: dict[str, list[vsdk.Event]] = defaultdict(list)
    for name, event in events:
        found[name].append(event)
    return dict(found)


def comparable(events: Sequence[vsdk.Event]) -> list[object]:
    """Events without the last digits, which on some machines depend on what is encoded together."""
    return [
        (event.index, event.start_frame, event.end_frame, event.start, event.end, pytest.approx(event.depth, abs=1e-4))
        if isinstance(event, vsdk.Scene)
        else event
        for event in events
    ]


def test_each_stream_gives_what_it_gives_alone(clips: dict[str, Path]) -> None:
    with vsdk.Streams(vsdk.load(), clips) as streams:
        together = sorted_out(streams)
        memories = {name: streams[name].memory for name in streams.names}
        assert streams.failures == {}
    assert list(memories) == list(clips)
    for name, path in clips.items():
        with vsdk.Stream(vsdk.load(), path) as stream:
            alone = list(stream)
        assert comparable(together[name]) == comparable(alone)
        for ours, theirs in zip(together[name], alone, strict=True):
            if isinstance(ours, vsdk.Scene) and isinstance(theirs, vsdk.Scene):
                assert ours.features is not None
                assert theirs.features is not None
                np.testing.assert_allclose(ours.features.cls, theirs.features.cls, atol=1e-4)
        memory = memories[name]
        assert memory is not None
        assert stream.memory is not None
        assert len(memory.entries) == len(stream.memory.entries) == sum(e.type == "scene" for e in alone)
        np.testing.assert_allclose(memory.tokens(), stream.memory.tokens(), atol=1e-3)
    assert no_threads_left()
