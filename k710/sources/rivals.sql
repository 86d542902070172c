-- Clips whose copy is named after the YouTube id alone: if it is trimmed, it could be another window as well.
-- One row per such clip with the number of windows that the copy could be. Key and order: clip_id.
select
    sources.clip_id,
    num_windows,
from sources
join windows
    on windows.clip_id = sources.clip_id
    and windows.copy_id = copy_id(sources.uri, sources.member, sources.bytes)
where
    trimmed is null
    and num_windows > 1
    and not (is_named_by_folder and num_named_by_folder = 1)
order by sources.clip_id
