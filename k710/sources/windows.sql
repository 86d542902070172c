-- The windows that a copy named after its YouTube id alone could be, if it is trimmed. A class folder may tell which.
-- One row per (copy, clip). Key: (copy_id, clip_id). The count is of windows of one length.
select
    copy_id,
    clip_id,
    length_s,
    coalesce(list_contains(labels, label), false) as is_named_by_folder,
    count(*) over copy as num_windows,
    count(*) filter (list_contains(labels, label)) over copy as num_named_by_folder,
from named
join wanted using (youtube_id)
left join folders using (folder)
where named.time_start is null
window copy as (partition by copy_id, length_s)
