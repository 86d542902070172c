__version__: str

from .annotations import Fetched as Fetched, fetch_annotations as fetch_annotations
from .download import (
    DownloadOptions as DownloadOptions,
    DownloadSummary as DownloadSummary,
    download_videos as download_videos,
)
from .engines import Local as Local, Ray as Ray
from .errors import (
    K710Error as K710Error,
    LabelError as LabelError,
    MediaError as MediaError,
    MissingExtra as MissingExtra,
    RecipeError as RecipeError,
    SchemaError as SchemaError,
    SourceError as SourceError,
    StageError as StageError,
    TrainingError as TrainingError,
    WeightsError as WeightsError,
)
from .export import (
    ExportSummary as ExportSummary,
    export_view as export_view,
    open_view as open_view,
)
from .labels import (
    ClassFileCheck as ClassFileCheck,
    check_class_file as check_class_file,
    class_names as class_names,
    head_map as head_map,
    k710_order as k710_order,
    resolve_label as resolve_label,
)
from .manifest import (
    ExplainedRow as ExplainedRow,
    NamePair as NamePair,
    Summary as Summary,
    build_manifest as build_manifest,
    explain as explain,
    label_evidence as label_evidence,
    load_view as load_view,
)
from .part import Part as Part
from .report import (
    Card as Card,
    WorkStatus as WorkStatus,
    read_status as read_status,
    write_card as write_card,
)
from .shards import (
    ShardSummary as ShardSummary,
    Verified as Verified,
    finish_shards as finish_shards,
    make_shards as make_shards,
    verify_shards as verify_shards,
)
from .sources import IndexSummary as IndexSummary, index_videos as index_videos
from .video import Encoding as Encoding, read_frames as read_frames
