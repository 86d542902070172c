-- What is known of each clip of some shards before it is made. One row per place. Key: (shard, position).
-- rivals: other clips as long, for which the same file of unknown window is the copy.
-- Order: by where the bytes are, so that an archive is read in one pass; loose files shard by shard.
with

copies as (
    select
        sources.*,
        time_start,
        time_end,
        case when uri is not null and trimmed is null then count(*) over (
            partition by uri, member, time_end - time_start
        ) - 1 else 0 end as rivals,
    from sources
    join (select distinct clip_id, time_start, time_end from manifest) using (clip_id)
)

select
    plan.shard,
    plan.position,
    copies.*,
from plan
join copies using (clip_id)
where list_contains($shards, plan.shard)
order by
    member is null,
    case when member is null then plan.shard end,
    uri,
    member,
    time_start,
    plan.shard,
    plan.position
