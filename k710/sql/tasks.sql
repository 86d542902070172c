-- What is known of each clip of some shards before it is made. One row per place. Key: (shard, position).
-- Order: by where the bytes are, so that an archive is read in one pass; loose files shard by shard.
with

copies as (
    select sources.*, time_start, time_end,
    from sources
    join (select distinct clip_id, time_start, time_end from manifest) using (clip_id)
)

select
    plan.shard,
    plan.position,
    plan.clip_id,
    coalesce(status, 'missing') as status,
    case when status is null then 'no longer in the manifest' else detail end as detail,
    coalesce(tool, 'shard') as tool,
    coalesce(time_start, 0) as time_start,
    coalesce(time_end, 0) as time_end,
    copies.* exclude (clip_id, status, detail, tool, time_start, time_end),
from plan
left join copies using (clip_id)
where list_contains($shards, plan.shard)
order by
    member is null,
    case when member is null then plan.shard end,
    uri,
    member,
    time_start,
    plan.shard,
    plan.position
