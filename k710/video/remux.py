"""An MPEG transport stream, as HLS has them, as a file that can be cut to the frame."""

from pathlib import Path

import av
from av.error import FFmpegError
from av.stream import Stream

from k710.video.container import UnreadableVideo, fault_words, name_of

__all__ = ["out_of_transport"]

_PACKET_BYTES = 188
_SYNC = b"G"  # with which each packet begins


def out_of_transport(path: Path, *, audio: bool) -> Path:
    """`path`; if that is a transport stream, an MP4 beside it of the same packets, in its place.

    It gets the first stream of pictures, and with `audio` the first of sound. MediaError where
    those can't be read.
    """
    with path.open("rb") as file:
        head = file.read(_PACKET_BYTES + 1)
    if len(head) <= _PACKET_BYTES or not head[:1] == head[_PACKET_BYTES:] == _SYNC:
        return path
    target = path.with_name("packets.mp4")
    try:
        with (
            av.open(f"file:{path}", options={"format_whitelist": "mpegts"}) as source,
            av.open(f"file:{target}", "w", format="mp4") as moved,
        ):
            taken: list[Stream] = [*source.streams.video[:1], *source.streams.audio[: int(audio)]]
            streams = {one.index: moved.add_stream_from_template(one) for one in taken}
            for packet in source.demux(taken):
                if packet.dts is not None:
                    packet.stream = streams[packet.stream_index]
                    moved.mux(packet)
    except FFmpegError as error:
        if isinstance(error, OSError):  # of the disk
            raise
        raise UnreadableVideo(name_of(path), fault_words(error)) from error
    path.unlink()
    return target
