-- What is known of a copy as a copy of a clip. One row per (clip, copy). Key: (clip_id, copy_id).
-- Decoding knows best, then this run's probe, then what the table said before, then the ledger of downloads.
-- What was said of another file in the same place doesn't count: its time or its inode is another.
with

told as (
    select 1 as precedence, * exclude (shard, position, turn, copy_id),
    from tried

    union all by name

    select 2 as precedence, * exclude (place, could_be, why),
    from probed

    union all by name

    select 3 as precedence, * exclude (place, could_be, why),
    from former

    union all by name

    select 4 as precedence, *, 'ok' as status, false as trimmed,
    from fetched_files

    union all by name

    select 4 as precedence, *, 'ok' as status, false as trimmed,
    from moved_downloads
),

agreeing as (
    select
        told.* exclude (uri, member, bytes, mtime_ns, inode),
        locations.copy_id,
        -- An archive that was read, and did not hold it, does not hold it as long as it is the same.
        told.status = 'missing'
        and told.member is not null
        and told.mtime_ns is not null
        and precedence < 3 as is_lacking,
    from told
    join locations on locations.copy_id = copy_id(told.uri, told.member, told.bytes)
    where told.mtime_ns is null
        or locations.mtime_ns is null
        or (told.mtime_ns = locations.mtime_ns and told.inode = locations.inode)
),

best as (
    from agreeing
    -- A file that could not be read says nothing when it can be.
    where status <> 'missing' or is_lacking or duration_s is not null
    qualify row_number() over (
        partition by clip_id, copy_id
        order by precedence
    ) = 1
)

-- Whether a copy that is there can be had as this clip is asked anew: candidates.sql.
select
    * exclude (precedence, is_lacking) replace (
        case when status <> 'missing' or is_lacking then status end as status,
        case when status <> 'missing' or is_lacking then detail end as detail,
        case when status <> 'missing' or is_lacking then tool end as tool
    ),
from best
