"""Addresses of MQTT brokers and topics; what cannot be taken apart is not shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsdk.sinks.mqtt_address import MqttAddress, level
from vsdk_runtimes.errors import InputError


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("mqtt://broker", MqttAddress("broker", 1883, False, "vsdk")),
        ("mqtts://broker", MqttAddress("broker", 8883, True, "vsdk")),
        ("mqtt://broker:1884/a/b", MqttAddress("broker", 1884, False, "a/b")),
        ("mqtt://broker/a/", MqttAddress("broker", 1883, False, "a")),
        ("mqtt://[::1]:1884/a", MqttAddress("::1", 1884, False, "a")),
        ("MQTT://robot:secret@broker/a", MqttAddress("broker", 1883, False, "a", "robot", "secret")),
        ("mqtt://robot@broker", MqttAddress("broker", 1883, False, "vsdk", "robot", None)),
        ("mqtt://r%40b:p%2F%3A%23%25@broker", MqttAddress("broker", 1883, False, "vsdk", "r@b", "p/:#%")),
        ("mqtt://robot:p@ss@broker", MqttAddress("broker", 1883, False, "vsdk", "robot", "p@ss")),
        ("mqtt://robot:%C3%A9t%C3%A9@broker/%C3%A9t%C3%A9", MqttAddress("broker", 1883, False, "été", "robot", "été")),
    ],
)
def test_an_address_has_parts(url: str, address: MqttAddress) -> None:
    assert MqttAddress.parse(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "",
        "broker",
        "robot:hunter2@broker",
        "http://robot:hunter2@broker",
        "mqtt:robot:hunter2@broker",
        "mqtt://",
        "mqtt://robot:hunter2@",
        "mqtt://robot:hunter2@:1883",
        "mqtt://robot:hunter2@broker:port",
        "mqtt://robot:hunter2@broker:0",
        "mqtt://robot:hunter2@broker:70000",
        "mqtt://robot:hun/ter2@broker",
        "mqtt://robot:hun#ter2@broker",
        "mqtt://robot:hun?ter2@broker",
        "mqtt://robot:hunter2@[::1",
        "mqtt://:hunter2@broker",
        "mqtt://robot:hunter2%FF@broker",
        "mqtt://robot:hunter2%00@broker",
        "mqtt://robot:hunter2@broker/a?token=hunter2",
        "mqtt://robot:hunter2@broker/a#b",
        "mqtt://robot:hunter2@broker/a%23/b",
        "mqtt://robot:hunter2@broker/a/+/b",
        "mqtt://robot:hunter2@broker/a//b",
        "mqtt://robot:hunter2@broker/$SYS",
        "mqtt://robot:hunter2@broker/a%0Ab",
        "mqtt://robot:hunter2@broker/%FF",
    ],
)
def test_anything_else_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(InputError) as caught:
        MqttAddress.parse(url)
    assert "mqtt://user:password@host:1883/topic/prefix" in caught.value.hint
    chain: BaseException | None = caught.value
    while chain is not None:
        assert "hunter2" not in str(chain)
        assert "ter2" not in str(chain)
        chain = chain.__cause__ or chain.__context__


@given(st.text(st.sampled_from("mqts:/@%#?[]+$ab12\0é\n")), st.text(max_size=4), st.text(max_size=6))
def test_a_text_is_an_address_without_its_secret_or_an_error(noise: str, front: str, back: str) -> None:
    for url in (f"{front}{noise}", f"mqtt://robot:XYZZY{noise}@{back}", f"mqtt://{noise}XYZZY:XYZZY@b{back}"):
        try:
            address: MqttAddress | InputError = MqttAddress.parse(url)
        except InputError as error:
            address = error
        assert "XYZZY" not in repr(address)
        assert "XYZZY" not in str(address)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("clip.mp4", "clip.mp4"),
        ("two scenes.mp4", "two_scenes.mp4"),
        ("rtsp://***@10.0.0.7:554/main", "rtsp_10.0.0.7_554_main"),
        ("rtsp://robot:hunter2@10.0.0.7/main", "rtsp_10.0.0.7_main"),
        ("/dev/video0", "dev_video0"),
        ("été/+/#", "été"),
    ],
)
def test_a_name_becomes_one_level_of_a_topic(name: str, expected: str) -> None:
    assert level(name) == expected
    assert MqttAddress.parse("mqtt://broker/a/b").topic(name, "scene") == f"a/b/{expected}/scene"


@pytest.mark.parametrize("name", ["", "/", "+", "***"])
def test_a_name_without_letters_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="cannot be a level of a topic"):
        level(name)


@given(st.text())
def test_a_level_has_nothing_that_means_something_in_a_topic(name: str) -> None:
    try:
        assert not set("/+#$\0 ") & set(level(name))
    except InputError:
        return
