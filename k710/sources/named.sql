-- What the names of copies say: ID_000012_000022.mp4 a clip, ID.mp4 a YouTube id alone; other names say nothing.
-- One row per copy whose name says something. Key: copy_id.
with

placed as (
    select distinct
        copy_id,
        uri,
        member,
        bytes,
        -- A member lies in its archive as in a folder of that name.
        case
            when member is null then uri
            else regexp_replace(uri, '(?i)\.(tar|tar\.gz|tgz)$', '') || '/' || member
        end as place,
    from copies
),

parts as (
    select
        copy_id,
        uri,
        member,
        bytes,
        regexp_extract(place, '([^/]*)/+(?:\./+)*[^/]*$', 1) as folder,
        regexp_extract(place, '([^/]*)\.[^./]*$', 1) as stem,
    from placed
)

select
    copy_id,
    uri,
    member,
    bytes,
    folder,
    substr(stem, 1, 11) as youtube_id,
    try_cast(substr(stem, 13, 6) as integer) as time_start,  -- null: the name has no window
    try_cast(substr(stem, 20, 6) as integer) as time_end,
from parts
where regexp_full_match(stem, '[A-Za-z0-9_-]{11}(_[0-9]{6}_[0-9]{6})?')
