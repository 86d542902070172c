-- Downloads that were to go once all that they were fetched for is made, and now it is. One row per file. Key: uri.
-- A clip is made when it is stored, or a shard run found that this very file has no good one.
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
left join statuses using (status)
group by newest.uri
having bool_and(not keep)
    and bool_and(
        coalesce(
            stored
            or (
                decoded.uri = newest.uri
                and decoded.bytes = newest.bytes
                and status <> 'ok'
                and subject = 'file'
            ),
            false
        )
    )
