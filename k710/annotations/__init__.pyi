from .check import ListRead as ListRead
from .check import read_annotations as read_annotations
from .fetch import Fetched as Fetched
from .fetch import fetch_annotations as fetch_annotations
from .find import ListFile as ListFile
from .find import find_lists as find_lists
