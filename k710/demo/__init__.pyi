from .lists import DemoLists as DemoLists
from .lists import write_demo_lists as write_demo_lists
from .lists import write_demo_videos as write_demo_videos
from .lists import write_motion_lists as write_motion_lists
