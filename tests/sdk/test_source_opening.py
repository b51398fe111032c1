from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from video_tools import numbered, write_numbered

from vsdk.errors import InputError, SourceError, SourceNotFoundError
from vsdk.sources.arrays import Arrays
from vsdk.sources.credentials import redacted
from vsdk.sources.image_folder import ImageFolder
from vsdk.sources.live import LiveSource
from vsdk.sources.live_settings import LiveSettings
from vsdk.sources.opening import open_source
from vsdk.sources.video_file import VideoFile


def test_what_is_opened(tmp_path: Path) -> None:
    clip = write_numbered(tmp_path / "clip.mp4", 3)
    PIL.Image.fromarray(numbered(0)).save(tmp_path / "picture.png")
    for spec, kind in (
        (str(clip), VideoFile),
        (clip, VideoFile),
        (str(tmp_path), ImageFolder),
        (tmp_path, ImageFolder),
        ([numbered(0)], Arrays),
        (np.zeros((2, 8, 8, 3), np.uint8), Arrays),
        ((numbered(index) for index in range(3)), Arrays),
    ):
        with open_source(spec) as source:
            assert type(source) is kind


def test_a_source_is_returned_as_it_is() -> None:
    with Arrays([numbered(0)]) as source:
        assert open_source(source) is source


def test_threads_are_those_of_the_decoder(tmp_path: Path) -> None:
    clip = write_numbered(tmp_path / "clip.mp4", 3)
    with open_source(clip, threads=1) as source:
        assert len(list(source)) == 3
    with pytest.raises(InputError, match="at least 1 thread"):
        open_source(clip, threads=0)


@pytest.mark.parametrize(
    "address",
    [
        "RTSP://admin:s3c@r/3?t@10.0.0.7/main",
        "rtmp://admin:s3cr3t@10.0.0.7/main",
        "ftp://example.org/clip.mp4?token=t0k3n&width=640",
        "file:///tmp/clip.mp4",
    ],
)
def test_other_addresses_are_refused_without_their_credentials(address: str) -> None:
    with pytest.raises(SourceError) as caught:
        open_source(address)
    assert caught.value.hint
    shown = f"{caught.value} {caught.value!r}"
    for secret in ("admin", "s3c", "r/3", "t0k3n"):
        assert secret not in shown


def test_an_address_is_a_live_source_with_the_settings_given() -> None:
    settings = LiveSettings(policy="every")
    with open_source("rtsp://admin:s3cr3t@127.0.0.1:9/main", live=settings) as source:
        assert isinstance(source, LiveSource)
        assert source.settings is settings
        assert source.info.name == "rtsp://***@127.0.0.1:9/main"
        assert source.info.live


def test_raw_frames_come_from_standard_input_only(tmp_path: Path) -> None:
    for spec in (tmp_path, [numbered(0)], np.zeros((2, 8, 8, 3), np.uint8)):
        with pytest.raises(InputError, match="standard input"):
            open_source(spec, raw="8x8:rgb24@25")


def test_a_number_as_a_path_brings_up_the_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceNotFoundError, match="0 does not exist") as caught:
        open_source("0")
    assert "camera://0" in caught.value.hint


@pytest.mark.parametrize("spec", [None, 1.5, True, b"clip.mp4", object()])
def test_what_is_no_source(spec: Any) -> None:
    with pytest.raises(InputError, match="is not a source"):
        open_source(spec)


def test_a_wrong_name_brings_up_the_nearest_ones(tmp_path: Path) -> None:
    for name in ("bikes.mp4", "bikes_2.mp4", "garden.mkv"):
        (tmp_path / name).touch()
    with pytest.raises(SourceNotFoundError, match=r"bike\.mp4 does not exist") as caught:
        open_source(tmp_path / "bike.mp4")
    assert "bikes.mp4" in caught.value.hint
    assert "garden" not in caught.value.hint
    with pytest.raises(SourceNotFoundError) as caught:
        open_source(tmp_path / "zzz")
    assert str(tmp_path) in caught.value.hint
    with pytest.raises(SourceNotFoundError) as caught:
        open_source(tmp_path / "nowhere" / "bikes.mp4")
    assert str(tmp_path / "nowhere") in caught.value.hint


@pytest.mark.parametrize("name", ["a\0b.mp4", "", "bikes.mp4/more.mp4"])
def test_names_that_cannot_be(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bikes.mp4").touch()
    with pytest.raises(SourceNotFoundError):
        open_source(name)


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="too long"):
        open_source(tmp_path / ("x" * 300))


def test_an_address_without_its_scheme_is_not_shown_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceNotFoundError) as caught:
        open_source("admin:s3cr3t@10.0.0.7/main")
    assert "s3cr3t" not in f"{caught.value}"


# Redaction


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://10.0.0.7:554/main", "rtsp://10.0.0.7:554/main"),
        ("rtsp://admin:secret@10.0.0.7:554/main", "rtsp://***@10.0.0.7:554/main"),
        ("rtsp://first.last:p@ss/w?rd#1@cam-1.local/main", "rtsp://***@cam-1.local/main"),
        (
            "cannot open 'rtsp://u:p@host/a' or 'http://v:q@host/b'",
            "cannot open 'rtsp://***@host/a' or 'http://***@host/b'",
        ),
        ("http://host/a.mp4?user=me&password=x&size=2", "http://host/a.mp4?user=***&password=***&size=2"),
        ("http://host/a.mp4?api_key=x;access_token=y", "http://host/a.mp4?api_key=***;access_token=***"),
        ("admin:secret@host/main", "***@host/main"),
        ("/videos/clip 1.mp4", "/videos/clip 1.mp4"),
        ("/videos/me@home.mp4", "/videos/me@home.mp4"),
        ("clip.mp4: frame 3 is 96x64", "clip.mp4: frame 3 is 96x64"),
    ],
)
def test_redaction(text: str, shown: str) -> None:
    assert redacted(text) == shown


WORDS = st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters="\"'<>"), min_size=1, max_size=12)


@settings(deadline=None)
@given(user=WORDS, password=WORDS, scheme=st.sampled_from(["rtsp", "rtsps", "http", "rtmp", "srt+x"]))
def test_no_password_survives(user: str, password: str, scheme: str) -> None:
    user, password = f"QQ{user}", f"ZZ{password}"
    address = f"{scheme}://{user}:{password}@camera.local:554/main"
    for text in (address, f"[Errno 5] failed: '{address}'; last error log: [rtsp] cannot read {address}"):
        shown = redacted(text)
        assert "QQ" not in shown
        assert "ZZ" not in shown
        assert "camera.local:554/main" in shown
        assert redacted(shown) == shown
