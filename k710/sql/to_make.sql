-- What the shards to be made take: one row.
select
    count(*) filter (uri is not null and status in ('ok', 'truncated')) as clips,
    count(*) filter (uri is null or status not in ('ok', 'truncated')) as without_copy,
    coalesce(sum(time_end - time_start) filter (
        uri is not null and status in ('ok', 'truncated')
    ), 0)::bigint as seconds,
from plan
join sources using (clip_id)
join (select distinct clip_id, time_start, time_end from manifest) using (clip_id)
where list_contains($shards::integer[], shard)
