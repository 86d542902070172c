-- How many clips of each view have a copy, how many copies more there are, and how they fared.
-- One row per (view, status). Key and order: the same.
with

surplus as (
    select clip_id, greatest(count(*) filter (why is null) - 1, 0) as duplicates,
    from candidates
    group by clip_id
)

select
    view,
    status,
    count(*) as clips,
    count(*) filter (uri is not null and status <> 'missing') as found,
    coalesce(sum(duplicates), 0)::bigint as duplicates,
from manifest
join sources using (clip_id)
left join surplus using (clip_id)
group by view, status
order by view, status
