-- One row per pair a < b of the lists that were read: what they share. Key and order: (a, b).
with

clips as (
    select
        dataset || '/' || split as list,
        youtube_id,
        time_start,
        time_end,
        min(label) as label,  -- of exact duplicates inside a list the lowest label counts, as in its view
    from annotations
    group by all
),

lists as (
    select distinct dataset || '/' || split as list,
    from annotations
),

combinations as (
    select found_in, count(*) as num_ids,
    from ids
    group by found_in
),

shared_ids as (
    select
        a.list as a,
        b.list as b,
        coalesce(sum(num_ids), 0)::bigint as ids,
    from lists as a
    join lists as b on a.list < b.list
    left join combinations
        on holds(found_in, list_position($lists, a.list))
        and holds(found_in, list_position($lists, b.list))
    group by a.list, b.list
),

shared_clips as (
    select
        a.list as a,
        b.list as b,
        count(*) as clips,
        count(*) filter (a.label = b.label) as same_label,
        count(*) filter (a.label <> b.label) as other_label,
    from clips as a
    join clips as b using (youtube_id, time_start, time_end)
    where a.list < b.list
    group by a.list, b.list
)

select
    a,
    b,
    ids,
    coalesce(clips, 0)::bigint as clips,
    coalesce(same_label, 0)::bigint as same_label,
    coalesce(other_label, 0)::bigint as other_label,
from shared_ids
left join shared_clips using (a, b)
order by a, b
