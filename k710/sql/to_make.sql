-- What the shards to be made take: one row. A clip whose status a shard run found is tried again.
with

places as (
    select
        time_end - time_start as seconds,
        uri is not null
            and (status in ('ok', 'truncated') or starts_with(tool, 'shard')) as has_copy,
    from plan
    join sources using (clip_id)
    join (select distinct clip_id, time_start, time_end from manifest) using (clip_id)
    where list_contains($shards::integer[], shard)
)

select
    count_if(has_copy) as clips,
    count_if(not has_copy) as without_copy,
    coalesce(sum(seconds) filter (has_copy), 0)::bigint as seconds,
from places
