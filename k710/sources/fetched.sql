-- Why the last attempt at a clip left no file for it. One row per clip of which that is so. Key: clip_id.
-- A failure, and a whole video, concern every window of the id; sections those that were asked for.
with

concerned as (
    select clip_id, attempts.*,
    from attempts
    join wanted using (youtube_id)
    where kind is distinct from 'sections' or list_contains(clips, clip_id)
),

newest as (
    from concerned
    qualify row_number() over (
        partition by clip_id
        order by place desc
    ) = 1
)

select
    clip_id,
    case when status = 'ok' then 'empty' else status end as status,
    detail,
    tool,
from newest
where status <> 'ok'
    or (
        kind = 'sections'
        and not coalesce(
            list_bool_or(list_transform(files, lambda file: list_contains(file.clips, clip_id))),
            false  -- no files
        )
    )
