-- The lines of the ledger that are whole. One row per attempt at a video.
select
    ended_at,
    youtube_id,
    attempt,
    clips,
    status,
    detail,
    kind,
    files,
    num_bytes,
    seconds,
    is_wall,
    keep,
    tool,
from read_json(
    $files,
    format = 'newline_delimited',
    ignore_errors = true,  -- a line that a kill cut short has no columns
    columns = $columns
)
where ended_at is not null and youtube_id is not null and status is not null
