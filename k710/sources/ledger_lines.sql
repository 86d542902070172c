-- The lines of one file of the ledger, as they follow each other. One row per line that isn't empty. Key: line.
-- Of a line that is no JSON, or was cut short by a kill, all columns are null; is_good: an attempt as k710 writes them. What
-- it only measured may be missing.
select
    $name as file,
    row_number() over () as line,
    coalesce(
        ended_at between timestamp '2000-01-01' and timestamp '9999-01-01'
        and regexp_full_match(youtube_id, '[A-Za-z0-9_-]{11}')
        and attempt between 0 and 1000000
        and list_contains($statuses, status)
        and (kind is null or kind in ('whole', 'sections'))
        and coalesce(num_bytes, 0) between 0 and 1000000000000000
        and coalesce(seconds, 0) between 0 and 1000000000
        and keep is not null
        and len(list_filter(clips, lambda clip: clip is null)) = 0
        and len(
            list_filter(
                files,
                lambda file: not coalesce(
                    file.uri is not null
                    and file.num_bytes between 0 and 1000000000000000
                    and file.starts_at_s between -1000000000 and 1000000000
                    and len(list_filter(file.clips, lambda clip: clip is null)) = 0,
                    false
                )
            )
        ) = 0,
        false
    ) as is_good,
    ended_at,
    youtube_id,
    attempt,
    clips,
    status,
    left(detail, 500) as detail,
    kind,
    files,
    coalesce(num_bytes, 0) as num_bytes,
    coalesce(seconds, 0) as seconds,
    coalesce(is_wall, false) as is_wall,
    keep,
    coalesce(tool, 'yt-dlp') as tool,
from read_json(
    $path,
    format = 'newline_delimited',
    ignore_errors = true,
    columns = $columns
)
