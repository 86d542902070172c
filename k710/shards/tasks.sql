-- The copies from which each clip of some shards may be made. One row per place and copy, in any case one per place.
-- Key: (shard, position, turn). turn: 1 the copy that is tried first; the others follow if it is no good.
-- is_tried: there is such a copy, and it is not known that it is no good; or it is tried once more.
-- Last come the clip's window and all columns of sources, in their order, and the file's stamp.
-- Order: first turns first, by where the bytes are, so that an archive is read in one pass; loose files shard by shard.
with

wanted as (
    select distinct clip_id, time_start, time_end,
    from manifest
),

-- That of sources.parquet comes first, also where it is not the best any more: what is stored was made of it.
known as (
    select
        0 as place,
        sources.* exclude (file_row_number),
        mtime_ns,
        inode,
        could_be,
        sources.status <> 'missing' as is_usable,
    from sources
    left join copies
        on copies.clip_id = sources.clip_id
        and copy_id(copies.uri, copies.member, copies.bytes)
            = copy_id(sources.uri, sources.member, sources.bytes)

    union all by name

    select
        copies.* exclude (file_row_number, why),
        why is null and copies.status <> 'missing' and not (trimmed is true and could_be is not null)
            as is_usable,
    from copies
    anti join sources
        on sources.clip_id = copies.clip_id
        and copy_id(sources.uri, sources.member, sources.bytes)
            = copy_id(copies.uri, copies.member, copies.bytes)
),

-- Where a clip has several places, all but the last stayed empty, and stay so.
places as (
    select
        *,
        max(shard) over (partition by clip_id) as last_shard,
        count(*) over (partition by clip_id) > 1 as is_again,
    from plan
),

placed as (
    select
        places.shard,
        places.position,
        places.clip_id as clip,
        place,
        uri is not null
            and is_usable
            and shard = last_shard
            and (state = 'to_shard' or is_again or starts_with(tool, 'shard')) as is_tried,
        case when trimmed is null then could_be end as could_be,
        time_start,
        time_end,
        known.* exclude (clip_id, place, could_be, is_usable),
    from places
    left join wanted using (clip_id)
    left join known on known.clip_id = wanted.clip_id
    left join statuses using (status)
    where list_contains($shards, shard)
),

taken as (
    select
        *,
        row_number() over (
            partition by shard, position
            order by is_tried desc, place
        ) as turn,
    from placed
)

select
    shard,
    position,
    turn,
    is_tried,
    could_be,
    coalesce(time_start, 0) as time_start,
    coalesce(time_end, 0) as time_end,
    clip as clip_id,
    coalesce(status, 'missing') as status,
    case when status is null then 'no longer in the manifest' else detail end as detail,
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
    coalesce(tool, 'shard') as tool,
    mtime_ns,
    inode,
from taken
where turn = 1 or is_tried
order by
    turn > 1,
    member is null,
    case when member is null then shard end,
    uri,
    member,
    time_start,
    shard,
    position,
    turn
