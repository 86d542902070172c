-- Downloads that were to go once all that they were fetched for is made, and now it is. One row per file. Key: uri.
-- A clip is made when it is stored, or a shard run found that this very file has no good one. What was tried was seen
-- again by then: it may be another file of that size.
with

files as (
    select keep, place, clips, unnest(files) as file,
    from attempts
),

newest as (
    select
        file.uri,
        arg_max(keep, place) as keep,
        arg_max(file.num_bytes, place) as bytes,
    from files
    group by file.uri
),

tried_again as (
    select clip_id, tried.uri, tried.bytes, status,
    from tried
    left join seen on seen.uri = tried.uri and seen.member is null and seen.precedence = 0
    where tried.mtime_ns is null
        or seen.mtime_ns is null
        or (tried.mtime_ns = seen.mtime_ns and tried.inode = seen.inode)
),

served as (
    select distinct
        file.uri,
        unnest(case when len(file.clips) = 0 then clips else file.clips end) as clip_id,
    from files
)

select newest.uri
from newest
join served using (uri)
left join decoded using (clip_id)
left join tried_again as tried
    on tried.clip_id = served.clip_id
    and tried.uri = newest.uri
    and tried.bytes = newest.bytes
left join statuses on statuses.status = tried.status
group by newest.uri
having bool_and(not keep)
    and bool_and(coalesce(stored, false) or coalesce(tried.status <> 'ok' and subject = 'file', false))
