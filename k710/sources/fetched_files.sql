-- Files that downloads left, as copies of clips: a whole video has every window of its id. One row per (clip, file).
-- Key: (clip_id, uri). Of a file that was fetched again the last one counts: it took the other's place.
with

files as (
    select youtube_id, place, tool, unnest(files) as file,
    from attempts
),

having_clip as (
    select clip_id, place, tool, file,
    from files
    join wanted using (youtube_id)
    where len(file.clips) = 0 or list_contains(file.clips, clip_id)
)

select
    clip_id,
    file.uri as uri,
    file.num_bytes as bytes,
    file.starts_at_s as starts_at_s,
    tool,
from having_clip
anti join discarded on discarded.uri = file.uri
qualify row_number() over (
    partition by clip_id, file.uri
    order by place desc, file.num_bytes, file.starts_at_s
) = 1
