-- Which copies may be had as which clips, what is known of them, and which is taken first: place 1.
-- One row per (clip, copy). Key: (clip_id, copy_id); also (clip_id, place).
with

paired as (
    select
        clip_id,
        wanted.youtube_id,
        length_s,
        wanted.time_start,
        copy_id,
        named.time_start is not null as has_window,
        named.time_start is null as has_id_only,
    from named
    join wanted
        on wanted.youtube_id = named.youtube_id
        and coalesce(named.time_start, wanted.time_start) = wanted.time_start
        and coalesce(named.time_end, wanted.time_end) = wanted.time_end

    union all by name

    -- A download is a copy of the clips that the ledger says, also where its name says nothing.
    select
        clip_id,
        length_s,
        time_start,
        copy_id(uri, member, bytes) as copy_id,
        false as has_window,
        false as has_id_only,
    from (
        select clip_id, uri, null as member, bytes,
        from fetched_files

        union all

        select clip_id, uri, null as member, bytes,
        from moved_downloads
    )
    join wanted using (clip_id)
    where copy_id not in (select copy_id from named)
),

known as (
    select
        paired.*,
        uri,
        member,
        bytes,
        mtime_ns,
        inode,
        why,
        facts.* exclude (clip_id, copy_id),
    from paired
    join locations using (copy_id)
    left join facts using (clip_id, copy_id)
),

-- Files named after their id alone that are one window each, as their length shows.
cut as (
    select distinct copy_id, length_s,
    from known
    where has_id_only and trimmed
),

-- What they can be, of all lengths that they were taken for.
possible as (
    select
        copy_id,
        clip_id,
        is_named_by_folder,
        count(*) over copy as num_windows,
        count(*) filter (is_named_by_folder) over copy as num_named_by_folder,
    from windows
    semi join cut using (copy_id, length_s)
    window copy as (partition by copy_id)
),

copies_cut as (
    select distinct copy_id, true as is_cut,
    from cut
),

fitting as (
    select
        known.* exclude (has_window, has_id_only) replace (
            coalesce(trimmed, case when has_window or possible.num_windows > 0 then true end) as trimmed,
            coalesce(
                starts_at_s,
                case when has_window or possible.num_windows > 0 then time_start end
            )::double as starts_at_s
        ),
        -- Of how many windows it is one; null: of this alone.
        case
            when possible.num_windows > 1 and possible.num_named_by_folder <> 1
                then possible.num_windows
            when
                trimmed is null
                and has_id_only
                and windows.num_windows > 1
                and not (windows.is_named_by_folder and windows.num_named_by_folder = 1)
                then windows.num_windows
        end as could_be,
        case
            when trimmed then duration_s
            else duration_s - greatest(time_start - coalesce(starts_at_s, 0), 0)
        end as found_s,
    from known
    left join copies_cut
        on has_id_only
        and copies_cut.copy_id = known.copy_id
    left join possible
        on possible.clip_id = known.clip_id
        and possible.copy_id = known.copy_id
    left join windows
        on windows.clip_id = known.clip_id
        and windows.copy_id = known.copy_id
    where
        is_cut is null
        or possible.num_windows = 1
        or (
            possible.num_windows > 1
            and (possible.num_named_by_folder <> 1 or possible.is_named_by_folder)
        )
),

ranked as (
    select
        *,
        case
            when why is not null or status = 'missing' then 5
            when trimmed and could_be is not null then 2
            when coalesce(status, 'ok') = 'ok' then 0  -- or nobody has looked
            when
                status = 'truncated'
                and is_enough(found_s, 0, length_s)
                and not starts_with(tool, 'shard')  -- that is stored, or was too short
                then 1
            when status = 'failed' then 3
            else 4
        end as rank,
    from fitting
)

select
    clip_id,
    copy_id,
    coalesce(status, 'ok') as status,
    detail,
    uri,
    member,
    trimmed,
    starts_at_s,
    bytes,
    sha256,
    width,
    height,
    fps,
    num_frames,
    duration_s,
    codec,
    coalesce(tool, 'index') as tool,
    mtime_ns,
    inode,
    row_number() over (
        partition by clip_id
        order by
            rank,
            case when rank = 1 then found_s end desc nulls last,
            trimmed is true desc,
            bytes desc nulls last,
            uri,
            member nulls first
    )::integer as place,
    could_be::integer as could_be,
    why,
from ranked
