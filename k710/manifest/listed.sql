-- Each annotation row with all lists that hold its YouTube id, without what the rules don't ask for.
-- One row per annotation row. Key: annotation_row, its place in annotations.parquet.
select
    file_row_number as annotation_row,
    dataset,
    split,
    dataset || '/' || split as list,
    youtube_id,
    time_start,
    time_end,
    label,
    found_in,
from annotations
join ids using (youtube_id)
