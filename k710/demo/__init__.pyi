from .lists import (
    DemoLists as DemoLists,
    write_demo_lists as write_demo_lists,
    write_demo_videos as write_demo_videos,
    write_motion_lists as write_motion_lists,
)
