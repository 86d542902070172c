-- One row per place in a shard: which clip goes there, decided before any clip is made. Key: (shard, position).
-- Order: the same. Shards that are planned keep their rows; `fresh` clips get new shards after them.
-- A clip is planned again only when its place stayed empty: of its places the last counts.
with

drawn as (
    select
        clip_id,
        time_end - time_start as seconds,
        md5($seed || ':' || clip_id) as draw,  -- a permutation that is the same everywhere, and no class order
    from fresh
),

laid as (
    select
        clip_id,
        draw,
        sum(seconds) over (
            order by draw, clip_id
            rows between unbounded preceding and current row
        ) - seconds as seconds_before,
        sum(seconds) over () as seconds_in_all,
    from drawn
),

-- As many shards as it takes, all of about the same length.
dealt as (
    select
        clip_id,
        draw,
        (
            $first_shard
            + seconds_before * ceil(seconds_in_all / $seconds_per_shard)::bigint // seconds_in_all
        )::integer as shard,
    from laid
)

select clip_id, shard, position,
from planned

union all

select
    clip_id,
    shard,
    (row_number() over (
        partition by shard
        order by draw, clip_id
    ) - 1)::integer as position,
from dealt
order by shard, position
