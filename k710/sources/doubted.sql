-- Files that are looked at again before anything counts that is known of them: they were not there, or could not be
-- read; a shard run came upon another file than a search had; or they are downloads of no use, in whose place others
-- may have come. One row per (file, member).
with

known as (
    select
        tried.* exclude (mtime_ns, inode),
        null as why,
        tried.mtime_ns is not null and former.uri is null as is_another,
    from tried
    left join former
        on former.clip_id = tried.clip_id
        and former.uri = tried.uri
        and former.member is not distinct from tried.member
        and former.bytes = tried.bytes
        and former.mtime_ns = tried.mtime_ns
        and former.inode = tried.inode

    union all by name

    select *, false as is_another,
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
        or is_another
        or (status <> 'ok' and uri in (select unnest(files).uri from attempts))
    )
order by all
