-- Downloads that lie elsewhere than the ledger says: folder, name and size tell which they are.
-- One row per (clip, copy). Key: (clip_id, uri).
with

shelved as (
    select *, regexp_extract(uri, '[^/]*/[^/]*$') as place,
    from fetched_files
)

select
    clip_id,
    locations.uri,
    locations.bytes,
    starts_at_s,
    tool,
from locations
join shelved
    on shelved.bytes = locations.bytes
    and shelved.place = regexp_extract(locations.uri, '[^/]*/[^/]*$')
where
    locations.member is null
    and locations.uri not in (select uri from fetched_files)
qualify row_number() over (
    partition by clip_id, locations.uri
    order by shelved.uri
) = 1
