-- How many clips of the wanted views have each status. One row per view and status. Key and order: (view, status).
select view, status, count(*) as clips,
from manifest
join sources using (clip_id)
where list_contains($views, view)
group by view, status
order by view, status
