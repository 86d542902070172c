from .byte_range import ByteRange as ByteRange
from .cut import Window as Window
from .encode import Encoded as Encoded, Encoding as Encoding
from .formats import VIDEO_ENDINGS as VIDEO_ENDINGS
from .frames import num_frames as num_frames, read_frames as read_frames
from .probe import Facts as Facts, Probed as Probed, probe_clip as probe_clip
