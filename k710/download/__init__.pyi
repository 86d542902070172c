from .options import DownloadOptions as DownloadOptions
from .run import download_videos as download_videos
from .summary import DownloadProgress as DownloadProgress, DownloadSummary as DownloadSummary
