"""The live page with a bundle that has a text tower."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from serve_tools import Listener, ask
from small_checkpoints import Exported
from test_stream import pictures

import vsdk
from vsdk.serving.server import LivePage
from vsdk.sources.arrays import Arrays

WORDS = "a red car by the house"


def test_scenes_are_found_by_words(exported: Callable[[str], Exported]) -> None:
    bundle = vsdk.load(exported("clip").bundle)
    with LivePage(bundle, port=0) as page:
        with vsdk.Stream(bundle, Arrays(pictures((20, 20, 20))), sinks=[page.add("door")]) as stream:
            scenes = [event for event in stream if isinstance(event, vsdk.Scene)]
        listener = Listener(page)
        assert listener.next().content["abilities"] == {"words": True}
        listener.close()
        answer = ask(page, f"/api/search?words={WORDS.replace(' ', '+')}")
        assert answer.status == 200, answer.body
        expected = vsdk.search(scenes, text=WORDS, bundle=bundle, top=8)
        assert [each["index"] for each in answer.json["scenes"]] == [match.scene.index for match in expected]
        assert [each["score"] for each in answer.json["scenes"]] == pytest.approx(
            [match.score for match in expected], abs=1e-4
        )
        for words in ("", "+", "%20%09"):
            answer = ask(page, f"/api/search?words={words}")
            assert (answer.status, "word" in answer.json["error"]) == (400, True)
