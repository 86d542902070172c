-- Files that are looked at again before anything counts that is known of them: they were not there, or could not be
-- read; or they are downloads of no use, in whose place others may have come. One row per (file, member).
with

known as (
    select clip_id, uri, member, bytes, status, null as why,
    from tried

    union all by name

    select clip_id, uri, member, bytes, status, why,
    from former
)

select distinct uri, member, bytes,
from known
anti join (select clip_id from decoded where stored) using (clip_id)
where
    uri is not null
    and (
        status = 'missing'
        or why is not null
        or (status <> 'ok' and uri in (select unnest(files).uri from attempts))
    )
order by all
