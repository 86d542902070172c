-- One row per upstream list that holds exact duplicates (same id, same window). Key and order: list.
with

repeated as (
    select
        dataset || '/' || split as list,
        clip_id(youtube_id, time_start, time_end) as clip_id,
        count(*) - 1 as surplus,
        -- Against a blank, which test lists may have, any label is another one.
        count(distinct coalesce(label, -1)) > 1 as conflicting,
    from annotations
    group by dataset, split, youtube_id, time_start, time_end
    having count(*) > 1
)

select
    list,
    sum(surplus)::bigint as rows,
    count(*) filter (conflicting) as conflicting,
    coalesce(min(clip_id) filter (conflicting), min(clip_id)) as example,
from repeated
group by list
order by list
