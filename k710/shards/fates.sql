-- How the clips of the wanted views fared; with $shards those alone that are planned for these. One row per view and status. Key and order: (view, status).
select
    view,
    status,
    count(*) as clips,
    count(index.clip_id) as stored,
    coalesce(sum(index.bytes), 0)::bigint as bytes,
from manifest
join fared using (clip_id)
left join index using (clip_id)
where
    list_contains($views, view)
    and (
        $shards is null
        or clip_id in (select clip_id from plan where list_contains($shards, shard))
    )
group by view, status
order by view, status
