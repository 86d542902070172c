from .check import ListRead as ListRead, read_annotations as read_annotations
from .fetch import Fetched as Fetched, fetch_annotations as fetch_annotations
from .find import (
    FoundLists as FoundLists,
    ListFile as ListFile,
    Unread as Unread,
    find_lists as find_lists,
)
from .table import write_annotations as write_annotations
