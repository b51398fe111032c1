"""The live page as a person sees it: `vsdk serve` with real streams, looked at with a real browser.

    python tests/sdk/page_in_chromium.py --clip demo/clip.mp4 --out docs/images/serve.png

Needs Chromium (Debian's package, for one), and no network. `test_serve_in_chromium.py` runs the same with a small clip.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
from chromium import Chromium, find_chromium
from clip_server import ClipServer
from PIL import Image

TOKEN = "a-token-of-twenty-six-letters"
SECRETS = ("viewer", "hunter2")
UNREACHABLE = "http://viewer:hunter2@127.0.0.1:9/main"
PATIENCE = 180.0
SCENES_ON_PICTURE = 7


class Served:
    """`vsdk serve` in a process of its own: two cameras that play a clip each, and one that cannot be reached.

    Attributes:
        url: Of the page.
        cameras: Those that play, by their names.
    """

    def __init__(self, clip: Path, other: Path, *options: str) -> None:
        self.cameras = {"door": ClipServer(clip), "yard": ClipServer(other)}
        sources = [*(camera.url for camera in self.cameras.values()), UNREACHABLE]
        names = [option for name in (*self.cameras, "gate") for option in ("--name", name)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "vsdk", "serve", *sources, *names, "--port", "0", *options],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "VSDK_TOKEN": TOKEN},
        )
        assert self._process.stderr is not None
        first = self._process.stderr.readline()
        assert first.startswith("live page: "), first + self._process.stderr.read()
        self.url = first.split()[-1]
        self.said = ""

    def stop(self) -> int:
        """End it as Ctrl-C does; its exit status."""
        self._process.terminate()
        _, said = self._process.communicate(timeout=PATIENCE)
        self.said += said
        return self._process.returncode

    def close(self) -> None:
        if self._process.poll() is None:
            self.stop()
        for camera in self.cameras.values():
            camera.die()


@contextmanager
def served(clip: Path, other: Path, *options: str) -> Iterator[Served]:
    page = Served(clip, other, *options)
    try:
        yield page
    finally:
        page.close()


def card(name: str) -> str:
    """The camera of this name, as an expression in the page."""
    return f"[...document.querySelectorAll('.camera')].find(c => c.querySelector('.name').textContent === '{name}')"


def check_token(browser: Chromium, url: str) -> None:
    """A wrong token is refused, the right one lets in and does not stay in the address."""
    for address in (url, f"{url}?token=", f"{url}?token=the-wrong-token-of-many-letters"):
        assert browser.open(address) == 401
        assert browser.js("document.querySelectorAll('.camera').length") == 0
        assert browser.js("document.querySelector('input[name=token]') !== null")
    assert browser.open(f"{url}?token={TOKEN}") == 200
    assert browser.js("location.href") == url


def check_pictures(browser: Chromium) -> None:
    """The cameras that play show pictures, one after the other; the one that cannot be reached is dead."""
    for name in ("door", "yard"):
        image = f"{card(name)}.querySelector('img')"
        browser.wait(f"!{image}.hidden && {image}.naturalWidth > 100")
        before = browser.js(f"{image}.src")
        browser.wait(f"{image}.src !== '{before}' && {image}.naturalWidth > 100")
        browser.wait(f"{card(name)}.classList.contains('live')")
        assert browser.js(f"{card(name)}.querySelector('.state').textContent") == "live"
    browser.wait(f"{card('gate')}.classList.contains('is-dead')")
    assert "refused" in browser.js(f"{card('gate')}.querySelector('.dead').textContent")


def check_timeline(browser: Chromium) -> None:
    """Scenes appear as they close, with thumbnails, without loading the page anew."""
    browser.js("window.untouched = true")
    for count in (1, 2, 4):
        browser.wait(f"document.querySelectorAll('.lane li').length >= {count}", PATIENCE)
    assert browser.js("window.untouched")
    browser.js("document.querySelectorAll('.lane img').forEach(i => i.loading = 'eager')")
    browser.wait("[...document.querySelectorAll('.lane img')].every(i => i.complete && i.naturalWidth > 0)")
    assert browser.js("document.querySelectorAll('.ribbon span').length") >= 4


def check_search(browser: Chromium, clip: Path, at: float, streams: tuple[int, ...]) -> None:
    """A picture out of the clip finds the scene that it is from, which is marked in the timeline, too.

    Args:
        browser: Shows the page.
        clip: What the first camera plays.
        at: Where in it, in seconds; the scene must have been shown.
        streams: Numbers of those that play this clip.
    """
    with tempfile.TemporaryDirectory() as folder:
        example = Path(folder) / "example.png"
        duration = _cut_out(clip, at, example)
        browser.choose_file("#file", example)
        browser.wait("!document.querySelector('#results').hidden || !document.querySelector('#problem').hidden")
        assert browser.js("document.querySelector('#problem').textContent") == ""
    best = browser.js("document.querySelector('#results li').dataset.key")
    stream, index = map(int, best.split("-"))
    assert stream in streams
    scenes = browser.js(f"fetch('/api/streams/{stream}/scenes').then(a => a.json())")["scenes"]
    (scene,) = (each for each in scenes if each["index"] == index)
    start, end = scene["start"] % duration, scene["start"] % duration + scene["end"] - scene["start"]
    assert start - 0.5 <= at <= end + 0.5, f"found {start:.2f} to {end:.2f} s, but the picture is from {at:.2f} s"
    assert browser.js(f"document.querySelector('.lane li[data-key=\"{best}\"]').classList.contains('found')")
    assert browser.js("document.querySelectorAll('.lane li:not(.found)').length") > 0


def check_keyboard(browser: Chromium) -> None:
    """Scenes are reached, walked along, opened and searched with keys alone."""
    browser.js("document.querySelector('.lane [tabindex=\"0\"]').focus()")
    browser.press("Home")
    browser.press("ArrowRight")
    assert browser.js("document.activeElement.closest('li') === document.querySelectorAll('.lane li')[1]")
    browser.press("Enter")
    browser.wait("document.querySelector('#details').open")
    browser.press("Escape")
    browser.wait("!document.querySelector('#details').open")
    unnamed = "[...document.querySelectorAll('button,input')].filter(e => !e.labels?.length && !e.textContent.trim())"
    assert browser.js(f"{unnamed}.map(e => e.outerHTML)") == []


def check_similar(browser: Chromium) -> None:
    """From a scene to those that are like it."""
    browser.js("document.querySelector('#results').hidden || document.querySelector('#clear').click()")
    assert browser.js("document.querySelectorAll('.found').length") == 0
    browser.js("document.querySelector('.lane .scene-card').click()")
    browser.js("document.querySelector('#similar').click()")
    browser.wait("!document.querySelector('#results').hidden")
    assert browser.js("document.querySelectorAll('#results li').length") > 0


def check_dead(browser: Chromium, page: Served) -> None:
    """A camera that dies is shown as dead: grey, with its state and since when; the other one goes on."""
    page.cameras["yard"].die()
    browser.wait(f"{card('yard')}.classList.contains('is-dead')")
    assert "since" in browser.js(f"{card('yard')}.querySelector('.dead').textContent")
    assert "grayscale" in browser.js(f"getComputedStyle({card('yard')}.querySelector('img')).filter")
    assert "2 dead" in browser.js("document.querySelector('#summary').textContent")
    assert browser.js(f"{card('door')}.classList.contains('live')")
    page.cameras["yard"].revive()
    browser.wait(f"{card('yard')}.classList.contains('live')")


def check_end(browser: Chromium, page: Served) -> None:
    """When vsdk is gone, the page says so, and no camera looks alive."""
    assert page.stop() == 130
    browser.wait("document.querySelector('#summary').textContent === 'no connection to vsdk'")
    browser.wait("document.querySelectorAll('.camera').length === document.querySelectorAll('.is-dead').length")


def check_requests(browser: Chromium, page: Served) -> None:
    """Nothing left the machine, nothing was refused by the page's own policy, and no secret was shown."""
    for request in browser.requests:
        assert request.startswith((page.url, f"blob:{page.url}")), request
    assert any("/picture" in request for request in browser.requests)
    unexpected = [text for text in browser.complaints if "401" not in text and "ERR_CONNECTION_REFUSED" not in text]
    assert unexpected == []
    shown = browser.js("document.documentElement.outerHTML")
    for secret in SECRETS:
        assert secret not in shown
        assert secret not in page.said


def check_all(program: str, clip: Path, at: float, *, other: Path | None = None, out: Path | None = None) -> None:
    """Everything, in one visit.

    Args:
        program: The browser's.
        clip: What one camera plays.
        at: Seconds into the clip, where the example for the search is cut out.
        other: What the other camera plays; the same if it is None.
        out: Where to put a picture of the page.
    """
    with served(clip, other or clip) as page, Chromium(program, (1280, 1000)) as browser:
        check_token(browser, page.url)
        check_pictures(browser)
        check_timeline(browser)
        scenes = _scenes_until(clip, at) + 1 if out is None else SCENES_ON_PICTURE
        browser.wait(f"document.querySelectorAll('.lane:first-child li').length >= {scenes}", PATIENCE)
        check_search(browser, clip, at, (0, 1) if other is None else (0,))
        if out is not None:
            dark: list[dict[str, Any]] = [{"name": "prefers-color-scheme", "value": "dark"}]
            browser.tell("Emulation.setEmulatedMedia", features=dark)
            browser.js("document.activeElement.blur(); new Promise(done => setTimeout(done, 1500))")
            browser.screenshot(out, whole=True)
        check_keyboard(browser)
        check_similar(browser)
        check_dead(browser, page)
        check_end(browser, page)
        check_requests(browser, page)


def _scenes_until(clip: Path, at: float) -> int:
    """How many scenes end before this time, when the clip is read alone."""
    import vsdk

    with vsdk.Stream(None, clip, memory=False) as stream:
        return sum(1 for event in stream if event.type == "scene" and event.end <= at)


def _cut_out(clip: Path, at: float, path: Path) -> float:
    """Write the picture at a time of a clip without its edges, as PNG; the duration of the clip in seconds."""
    with av.open(str(clip)) as container:
        video = container.streams.video[0]
        assert video.average_rate is not None
        picture = next(frame for frame in container.decode(video) if frame.time is not None and frame.time >= at)
        image = Image.fromarray(picture.to_ndarray(format="rgb24"))
        image.crop((image.width // 12, image.height // 12, image.width * 11 // 12, image.height * 11 // 12)).save(path)
        return float(video.frames / video.average_rate)


def main() -> int:
    parser = argparse.ArgumentParser(description="Look at the live page with Chromium, and check what it shows.")
    parser.add_argument("--clip", type=Path, default=Path("demo/clip.mp4"), help="what the cameras play; see make demo")
    parser.add_argument("--other", type=Path, help="what the second camera plays, if it is not the same")
    parser.add_argument("--at", type=float, default=4.0, help="seconds into it, where the example to search is cut out")
    parser.add_argument("--out", type=Path, help="write a picture of the page here (PNG)")
    options = parser.parse_args()
    program = find_chromium()
    if program is None:
        sys.exit("Chromium is not installed; on Debian: apt-get install chromium")
    check_all(program, options.clip, options.at, other=options.other, out=options.out)
    print("all checks passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
