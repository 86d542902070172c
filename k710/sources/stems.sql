-- What copies are called. One row per copy. Key: copy_id. A member lies in its archive as in a folder of that name.
-- stem: the name without its endings, of which programs may leave several: ID.mp4.webm, ID.f137.mp4.
with

placed as (
    select
        copy_id,
        uri,
        case
            when member is null then uri
            else regexp_replace(uri, '(?i)\.(tar|tar\.gz|tgz)$', '') || '/' || member
        end as place,
    from locations
)

select
    copy_id,
    uri,
    place,
    regexp_extract(place, '[^/]*$') as name,
    regexp_extract(place, '([^/]*)/+(?:\./+)*[^/]*$', 1) as folder,
    regexp_replace(
        regexp_extract(place, '([^/]*)\.[^./]*$', 1),
        '(?i)(\.(' || $endings || ')|\.f([0-9]+|hls|dash)([+-][0-9a-z]+)*)+$',
        ''
    ) as stem,
from placed
