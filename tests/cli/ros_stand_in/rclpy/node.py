from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from sensor_msgs.msg import Image
from std_msgs.msg import String

from .qos import QoSProfile


class Logger:
    def warning(self, text: str) -> None:
        print("warning:", text, file=sys.stderr)

    def error(self, text: str) -> None:
        print("error:", text, file=sys.stderr)


class Publisher:
    def __init__(self, node: Node, topic: str) -> None:
        self._node, self._topic = node, topic

    def publish(self, message: String) -> None:
        from . import ok

        assert ok(), "nothing can be published after the shutdown"
        assert self._node.alive
        print(self._topic, message.data, flush=True)


class Node:
    def __init__(self, name: str) -> None:
        self.name, self.alive = name, True
        self.callbacks: dict[str, Callable[[Any], None]] = {}

    def create_publisher(self, kind: type[String], topic: str, depth: int) -> Publisher:
        return Publisher(self, topic)

    def create_subscription(
        self, kind: type[Image], topic: str, callback: Callable[[Any], None], qos: QoSProfile
    ) -> None:
        self.callbacks[topic] = callback

    def get_logger(self) -> Logger:
        return Logger()

    def destroy_node(self) -> None:
        self.alive = False
