-- How the clips of the wanted views fared. One row per view and status. Key and order: (view, status).
select
    view,
    status,
    count(*) as clips,
    count(index.clip_id) as stored,
    coalesce(sum(index.bytes), 0)::bigint as bytes,
from manifest
join sources using (clip_id)
left join index using (clip_id)
where list_contains($views, view)
group by view, status
order by view, status
