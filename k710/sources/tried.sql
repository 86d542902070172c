-- What shard runs found when they last tried a copy for a clip. One row per (clip, copy). Key: (clip_id, copy_id).
-- Shards of earlier versions have no table of tries: their outcomes tell of the one copy that they tried.
with

told as (
    from recorded_tries

    union all by name

    select * exclude (stored), 0 as turn,
    from recorded
    anti join recorded_tries using (shard, position)
    where starts_with(tool, 'shard')
)

select *, copy_id(uri, member, bytes) as copy_id,
from told
where uri is not null
qualify row_number() over (
    partition by clip_id, copy_id(uri, member, bytes)
    order by shard desc, position desc, turn desc
) = 1
