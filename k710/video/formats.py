"""Which kinds of files are decoded, told by their content; the names of videos end accordingly.

FFmpeg asks all its demuxers whose a file is. `DEMUXERS` are those that may then open it: each reads
the bytes it is given and nothing else, and was compared with the ffmpeg program frame by frame.

Denied are all others, above all those that open what a file names:
- hls, dash, imf, webm_dash_manifest, concat: playlists, of other files or of addresses
- sdp, rtsp, rtp, sap: the network
- image2, alias_pix, brender_pix, *_pipe, apng: sequences of pictures, by a pattern of names
- vobsub, tedcaptions and other subtitles: a second file beside the first
- lavfi, avisynth, vapoursynth: programs that read any file
- raw streams of a codec (h264, hevc, m4v, ivf, obu), but for MPEG's: no times, or no end
- formats of games, cameras and studios (smk, r3d, mxf, ...): no site has them, hardly anybody tests
  FFmpeg's code for them
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["CAN_BE_COPIED", "DEMUXERS", "VIDEO_ENDINGS", "Demuxer"]


@dataclass(frozen=True, slots=True)
class Demuxer:
    """A kind of file. `endings` are of names, the usual one first; `why` it may be opened."""

    endings: tuple[str, ...]
    why: str


DEMUXERS: Mapping[str, Demuxer] = MappingProxyType(
    {
        # QuickTime can refer to other files; FFmpeg follows that only with enable_drefs.
        "mov": Demuxer(
            (".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".f4v", ".qt"), "MP4, QuickTime, 3GPP"
        ),
        "matroska": Demuxer((".mkv", ".webm"), "what YouTube and yt-dlp make"),
        "avi": Demuxer((".avi", ".divx"), "lists of classes come with it: UCF101, HMDB51"),
        "mpegts": Demuxer((".ts", ".m2ts", ".mts"), "HLS downloads, cameras: often called .mp4"),
        "flv": Demuxer((".flv",), "YouTube until 2015"),
        # "[Reference]" lists of addresses are another demuxer's, and none of FFmpeg's.
        "asf": Demuxer((".wmv", ".asf"), "Windows Media"),
        "mpeg": Demuxer((".mpg", ".mpeg", ".mpe", ".vob"), "MPEG program streams, DVDs"),
        "mpegvideo": Demuxer((".m2v", ".m1v", ".mpv"), "MPEG-1 and MPEG-2 without a container"),
        "ogg": Demuxer((".ogv", ".ogm"), "Theora: Wikimedia"),
        "gif": Demuxer((".gif",), "moving pictures of forums and data sets"),
    }
)
"""The demuxers that may open a file, by the first of FFmpeg's names for each."""

VIDEO_ENDINGS: tuple[str, ...] = tuple(
    ending for demuxer in DEMUXERS.values() for ending in demuxer.endings
)
"""How the names of videos end that can be decoded, in lower case. The content decides all the same:
a transport stream called .mp4 is read as one."""

CAN_BE_COPIED = ("mov", "matroska", "avi")
"""Demuxers whose files go into a shard as they are with `--profile copy`: other readers of shards
seek in them to the frame."""
