"""GStreamer's RTSP server with a paced, numbered video, for `live_faults.py`. Runs with the system's Python.

    python3 gst_rtsp_server.py PICTURES_A_SECOND PORT STARTED

STARTED is the moment of the first picture by `time.monotonic()`, so that a server that takes the place of another goes
on counting. PORT may be 0.

Needs gir1.2-gst-rtsp-server-1.0, python3-gi and an H.264 encoder (gstreamer1.0-plugins-ugly or -bad). Like
`camera_server.py` it prints its port as JSON, then obeys the lines of its standard input and answers each.
"""

import json
import sys
import threading
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

BITS, WIDTH, HEIGHT = 16, 128, 64
ENCODERS = (
    "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10 threads=1",
    "openh264enc gop-size=10 complexity=low",
)
USER, PASSWORD = "viewer", "s3cr3t/p@ss"


def picture_of(number: int) -> bytes:
    """As in `camera_server.py`, grey and without NumPy, which the system's Python may lack."""
    row = bytes(235 if number >> (x * BITS // WIDTH) & 1 else 20 for x in range(WIDTH))
    return row * HEIGHT


class Camera(GstRtspServer.RTSPMediaFactory):  # type: ignore[misc]
    """Makes a pipeline whose pictures are pushed by a thread."""

    def __init__(self, fps: float, started: float) -> None:
        super().__init__()
        self.fps = fps
        self.paused = False
        self._started = started
        encoder = next(line for line in ENCODERS if Gst.ElementFactory.find(line.split()[0]))
        self.set_launch(
            "( appsrc name=pictures is-live=true format=time do-timestamp=true "
            f"caps=video/x-raw,format=GRAY8,width={WIDTH},height={HEIGHT},framerate={round(fps)}/1 "
            f"! videoconvert ! video/x-raw,format=I420 ! {encoder} ! rtph264pay name=pay0 config-interval=1 )"
        )
        self.set_shared(True)

    def do_configure(self, media: GstRtspServer.RTSPMedia) -> None:
        GstRtspServer.RTSPMediaFactory.do_configure(self, media)
        source = media.get_element().get_by_name("pictures")
        threading.Thread(target=self._push, args=(source,), daemon=True).start()

    def _push(self, source: Gst.Element) -> None:
        number = 0
        while True:
            number = max(number + 1, int((time.monotonic() - self._started) * self.fps) + 1)
            time.sleep(max(0.0, self._started + number / self.fps - time.monotonic()))
            if self.paused:
                continue
            buffer = Gst.Buffer.new_wrapped(picture_of(number))
            if source.emit("push-buffer", buffer) != Gst.FlowReturn.OK:
                return


def locked_factory(factory: Camera, server: GstRtspServer.RTSPServer) -> None:
    """Whoever watches must say who he is."""
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "user")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(USER, PASSWORD), token)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_permission_for_role("user", "media.factory.access", True)
    permissions.add_permission_for_role("user", "media.factory.construct", True)
    factory.set_permissions(permissions)
    server.set_auth(auth)


def main() -> None:
    Gst.init(None)
    server = GstRtspServer.RTSPServer.new()
    server.set_address("127.0.0.1")
    server.set_service(sys.argv[2])
    camera = Camera(float(sys.argv[1]), float(sys.argv[3]))
    camera.set_protocols(GstRtsp.RTSPLowerTrans.TCP | GstRtsp.RTSPLowerTrans.UDP)
    server.get_mount_points().add_factory("/live", camera)
    server.attach(None)
    loop = GLib.MainLoop()
    threading.Thread(target=loop.run, daemon=True).start()
    print(json.dumps({"rtsp": server.get_bound_port()}), flush=True)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        if name == "set" and arguments[0] == "paused":
            camera.paused = bool(arguments[1])
        elif name == "set" and arguments[0] == "locked":
            if arguments[1]:
                locked_factory(camera, server)
            else:
                server.set_auth(None)
        elif name == "drop":
            server.client_filter(lambda _server, _client: GstRtspServer.RTSPFilterResult.REMOVE)
        print("null", flush=True)


if __name__ == "__main__":
    main()
