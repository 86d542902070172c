-- One row per annotation row of one YouTube id. Key: (source_file, source_line). Order: as in annotations.
with

rows as (
    select
        *,
        dataset || '/' || split as list,
    from annotations
    where youtube_id = $youtube_id
),

reasons as (
    select source_file, source_line, reason, kept_clip_id, held_out_by,
    from dropped
    where youtube_id = $youtube_id
)

select
    list,
    time_start,
    time_end,
    label_raw,
    label,
    $label_names[label + 1] as label_name,
    row_number() over (
        partition by list, time_start, time_end
        order by file_row_number
    ) = 1 as in_list_view,
    case when split <> 'test' and label is not null then 'k710/' || split end as k710_view,
    reason,
    kept_clip_id,
    held_out_by,
    source_file,
    source_line,
from rows
left join reasons using (source_file, source_line)
order by file_row_number
