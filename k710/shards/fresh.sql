-- The clips of the wanted views that have no shard to come to. One row per clip. Key: clip_id.
-- A clip whose place stayed empty is fresh again where it has another copy now, or one that could not be
-- read then and is there again, or if $retry.
-- With $found_only a clip without a copy is not fresh.
with

wanted as (
    select distinct clip_id, time_start, time_end,
    from manifest
    where list_contains($views, view)
),

-- The last place of each clip, and what became of it; no outcome: its shard isn't made yet.
places as (
    select
        clip_id,
        outcomes.shard is null as to_come,
        coalesce(outcomes.stored, false) as stored,
        outcomes.status,
        copy_id(outcomes.uri, outcomes.member, outcomes.bytes) as copy_id,
    from planned
    left join outcomes using (shard, position, clip_id)
    qualify row_number() over (
        partition by clip_id
        order by planned.shard desc
    ) = 1
),

copies as (
    select clip_id, copy_id(uri, member, bytes) as copy_id,
    from sources
    where uri is not null and status <> 'missing'
)

select wanted.clip_id, time_start, time_end,
from wanted
left join places using (clip_id)
left join copies using (clip_id)
where (places.clip_id is null and (copies.clip_id is not null or not $found_only))
    or (
        not to_come
        and not stored
        and copies.clip_id is not null
        and (
            $retry
            or places.status = 'missing'
            or copies.copy_id is distinct from places.copy_id
        )
    )
