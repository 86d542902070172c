-- What each clip of the wanted views has come to. One row per distinct clip. Key: clip_id.
-- state: stored (in a finished shard), or that of its status: to_shard, pending or final.
with

wanted as (
    select distinct clip_id,
    from manifest
    where list_contains($views, view)
),

-- A clip is in one shard at most.
made as (
    select clip_id, status,
    from outcomes
    where stored
),

-- Copies of which a shard run found less than half of the window: it takes no second look.
too_short as (
    select distinct clip_id, copy_id(uri, member, bytes) as copy_id,
    from outcomes
    where not stored and status = 'truncated'
)

select
    wanted.clip_id,
    case
        when made.clip_id is not null then 'stored'
        when too_short.clip_id is not null then 'final'
        else coalesce(state, 'pending')
    end as state,
    -- What is stored knows best, also where sources.parquet is of before.
    coalesce(made.status, sources.status, 'missing') as status,
    sources.detail,
    sources.uri is not null as has_copy,
from wanted
left join sources using (clip_id)
left join statuses on statuses.status = sources.status
left join made on made.clip_id = wanted.clip_id
left join too_short
    on sources.status = 'truncated'
    and too_short.clip_id = sources.clip_id
    and too_short.copy_id is not distinct from copy_id(sources.uri, sources.member, sources.bytes)
