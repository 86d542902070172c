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
)

select
    wanted.clip_id,
    case
        when made.clip_id is not null then 'stored'
        -- A shard run found less than half of the window in its best copy: it takes no second look.
        when sources.status = 'truncated' and starts_with(sources.tool, 'shard') then 'final'
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
