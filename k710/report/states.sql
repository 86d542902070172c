-- What each clip of the wanted views has come to. One row per distinct clip. Key: clip_id.
-- state: stored (in a shard that is done), to_shard (there is a copy, and no shard was made of it
-- yet), pending (may still be had) or dead (a definite no, or a copy that is no good).
with

fates (status, state) as (
    values
        ('ok', 'to_shard'),
        ('truncated', 'to_shard'),
        ('missing', 'pending'),  -- nobody has asked
        ('transient', 'pending'),
        ('blocked', 'pending'),
        ('ours', 'pending'),
        ('gone', 'dead'),
        ('private', 'dead'),
        ('age', 'dead'),
        ('region', 'dead'),
        ('empty', 'dead'),
        ('damaged', 'dead')
),

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
    select distinct clip_id, uri, member, bytes,
    from outcomes
    where not stored and status = 'truncated'
)

select
    wanted.clip_id,
    case
        when made.clip_id is not null then 'stored'
        when too_short.clip_id is not null then 'dead'
        else coalesce(state, 'pending')
    end as state,
    -- What is stored knows best, also where sources.parquet is of before.
    coalesce(made.status, sources.status, 'missing') as status,
    sources.detail,
    sources.uri is not null as has_copy,
from wanted
left join sources using (clip_id)
left join fates on fates.status = sources.status
left join made on made.clip_id = wanted.clip_id
left join too_short
    on sources.status = 'truncated'
    and too_short.clip_id = sources.clip_id
    and too_short.uri is not distinct from sources.uri
    and too_short.member is not distinct from sources.member
    and too_short.bytes is not distinct from sources.bytes
