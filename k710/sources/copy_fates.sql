-- What became of each copy that was found or known. One row per copy. Key: copy_id.
-- fate: used, duplicate, unknown (no clip's); gone (it can't be read); null: gone, and found elsewhere.
with

used as (
    select distinct copy_id(uri, member, bytes) as copy_id, true as is_used,
    from sources
    where uri is not null
),

fitting as (
    select distinct copy_id, true as is_fitting,
    from candidates
),

remembered as (
    select distinct copy_id(uri, member, bytes) as copy_id, true as is_remembered,
    from copies
),

read as (
    select copy_id, count(*) as num_readings,
    from readings
    group by copy_id
)

select
    locations.uri,
    member,
    why,
    concat_ws(': ', locations.uri, member) as place,
    coalesce(num_readings, 0) as num_readings,
    youtube_id is not null as is_of_wanted_video,
    case
        when why is not null then case when is_remembered then 'gone' end
        when is_used then 'used'
        when is_fitting then 'duplicate'
        else 'unknown'
    end as fate,
from locations
left join read using (copy_id)
left join (
    select copy_id, youtube_id,
    from named
    semi join wanted using (youtube_id)
) using (copy_id)
left join used using (copy_id)
left join fitting using (copy_id)
left join remembered using (copy_id)
