-- How many clips of each wanted view have come to what.
-- One row per (view, state, status). Key and order: the same.
select
    view,
    state,
    status,
    count(*) as clips,
    count(*) filter (has_copy) as with_copy,
from manifest
join states using (clip_id)
where list_contains($views, view)
group by view, state, status
order by view, state, status
