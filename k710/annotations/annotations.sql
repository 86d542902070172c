-- One row per row of an upstream list. Key: (source_file, source_line).
-- Input: rows, as k710/annotations/check.py reads them.
select
    dataset,
    split,
    youtube_id,
    time_start,
    time_end,
    label_raw,
    label,
    source_file,
    source_line,
from rows
order by
    dataset,
    split,
    youtube_id,
    time_start,
    time_end,
    label nulls last,
    source_file,
    source_line
