-- Which copies may be had as which clips, and what is known of them.
-- One row per (clip, copy). Key: (clip_id, copy_id).
with

paired as (
    select
        clip_id,
        wanted.youtube_id,
        length_s,
        wanted.time_start,
        copy_id,
        uri,
        member,
        bytes,
        folder,
        named.time_start is not null as has_window,
        named.time_start is null as has_id_only,
    from named
    join wanted
        on wanted.youtube_id = named.youtube_id
        and coalesce(named.time_start, wanted.time_start) = wanted.time_start
        and coalesce(named.time_end, wanted.time_end) = wanted.time_end

    union all by name

    -- A copy that was recorded for a clip stays one of it where its name says nothing.
    select
        clip_id,
        copy_id,
        uri,
        member,
        bytes,
        false as has_window,
        false as has_id_only,
    from facts
    semi join wanted using (clip_id)
    semi join copies using (copy_id)
    anti join named using (copy_id)
),

known as (
    select
        paired.*,
        facts.* exclude (clip_id, copy_id, uri, member, bytes),
    from paired
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
        count_if(is_named_by_folder) over copy as num_named_by_folder,
    from windows
    semi join cut using (copy_id, length_s)
    window copy as (partition by copy_id)
),

copies_cut as (
    select distinct copy_id, true as is_cut,
    from cut
)

select
    known.clip_id,
    known.copy_id,
    uri,
    member,
    bytes,
    case when num_windows > 1 and num_named_by_folder <> 1 then num_windows end as could_be,
    coalesce(trimmed, case when has_window or num_windows > 0 then true end) as trimmed,
    coalesce(
        starts_at_s,
        case when has_window or num_windows > 0 then time_start end
    )::double as starts_at_s,
    status,
    detail,
    sha256,
    width,
    height,
    fps,
    num_frames,
    duration_s,
    codec,
    tool,
from known
left join copies_cut
    on has_id_only
    and copies_cut.copy_id = known.copy_id
left join possible
    on possible.clip_id = known.clip_id
    and possible.copy_id = known.copy_id
where
    is_cut is null
    or num_windows = 1
    or (num_windows > 1 and (num_named_by_folder <> 1 or is_named_by_folder))
