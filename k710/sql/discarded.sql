-- Downloads that were to go once all that they were fetched for is stored, and now is. One row per file. Key: uri.
with

files as (
    select keep, clips, unnest(files) as file,
    from attempts
    where status = 'ok'
),

served as (
    select
        file.uri,
        keep,
        unnest(case when len(file.clips) = 0 then clips else file.clips end) as clip_id,
    from files
)

select uri,
from served
left join (select clip_id, true as is_stored from decoded where stored) as kept using (clip_id)
group by uri
having bool_and(not keep) and bool_and(coalesce(is_stored, false))
