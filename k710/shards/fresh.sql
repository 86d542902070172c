-- The clips of the wanted views that have no shard to come to. One row per clip. Key: clip_id.
-- A clip whose place stayed empty is fresh again where it has a copy that no run has tried, or if $retry.
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
    from planned
    left join outcomes using (shard, position, clip_id)
    qualify row_number() over (
        partition by clip_id
        order by planned.shard desc
    ) = 1
),

-- sources.parquet has the best copy of a clip: one that was tried, or is no good, where there is no other.
copies as (
    select
        clip_id,
        state = 'to_shard' and not starts_with(tool, 'shard') as is_untried,
    from sources
    join statuses using (status)
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
        and ($retry or is_untried)
    )
