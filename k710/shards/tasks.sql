-- What is known of each clip of some shards before it is made. One row per place. Key: (shard, position).
-- is_tried: there is a copy, and it is not known that it is no good; or it is tried once more.
-- Last come the clip's window and all columns of sources, in their order.
-- Order: by where the bytes are, so that an archive is read in one pass; loose files shard by shard.
with

copies as (
    select time_start, time_end, sources.* exclude (file_row_number),
    from sources
    join (select distinct clip_id, time_start, time_end from manifest) using (clip_id)
),

-- Where a clip has several places, all but the last stayed empty, and stay so.
places as (
    select
        *,
        max(shard) over (partition by clip_id) as last_shard,
        count(*) over (partition by clip_id) > 1 as is_again,
    from plan
)

select
    places.shard,
    places.position,
    uri is not null
        and shard = last_shard
        and (
            state = 'to_shard'
            or (status <> 'missing' and (is_again or starts_with(tool, 'shard')))
        ) as is_tried,
    coalesce(time_start, 0) as time_start,
    coalesce(time_end, 0) as time_end,
    places.clip_id,
    copies.* exclude (clip_id, time_start, time_end) replace (
        coalesce(status, 'missing') as status,
        case when status is null then 'no longer in the manifest' else detail end as detail,
        coalesce(tool, 'shard') as tool
    ),
from places
left join copies using (clip_id)
left join statuses using (status)
where list_contains($shards, shard)
order by
    member is null,
    case when member is null then shard end,
    uri,
    member,
    time_start,
    shard,
    position
