-- What is known of a copy as a copy of a clip. One row per (clip, copy). Key: (clip_id, copy_id).
-- Decoding knows best, then this run's probe, then what the table said before, then the ledger of downloads.
with

found as (
    select distinct copy_id, true as is_found,
    from copies
    where is_found
),

tried as (
    select decoded.* exclude (shard, position, stored), is_found,
    from decoded
    left join found using (copy_id)
),

told as (
    select 1 as precedence, * exclude (is_found),
    from tried
    where status <> 'missing' or is_found is null

    union all by name

    select 2 as precedence, *,
    from probed

    union all by name

    select 3 as precedence, *,
    from former

    union all by name

    select 4 as precedence, *, 'ok' as status, false as trimmed,
    from fetched_files

    union all by name

    -- That it was missing counts until it is seen again.
    select 5 as precedence, * exclude (is_found),
    from tried
    where status = 'missing' and is_found
),

best as (
    select * replace (copy_id(uri, member, bytes) as copy_id),
    from told
    where uri is not null
    qualify row_number() over (
        partition by clip_id, copy_id(uri, member, bytes)
        order by precedence
    ) = 1
)

-- Whether a copy that is there can be had as this clip is asked anew: candidates.sql.
select
    * exclude (precedence) replace (
        case when precedence < 3 or status <> 'missing' then status end as status,
        case when precedence < 3 or status <> 'missing' then detail end as detail,
        case when precedence < 3 or status <> 'missing' then tool end as tool
    ),
from best
