-- One row per pair of names that two datasets give to one clip, and per merged pair. Key: (name_a, name_b).
-- Order: merged pairs first, then by number of clips, then by name.
with

spellings as (
    select unnest($raw::varchar[]) as label_raw, unnest($spellings::varchar[]) as name,
),

merges as (
    select unnest($aliases::varchar[]) as alias, unnest($labels::varchar[]) as label_name,
),

named as (
    select distinct dataset, youtube_id, time_start, time_end, name,
    from annotations
    join spellings using (label_raw)
),

differing as (
    select
        least(a.name, b.name) as name_a,
        greatest(a.name, b.name) as name_b,
        a.dataset as dataset_a,
        b.dataset as dataset_b,
        (youtube_id, time_start, time_end) as clip,
    from named as a
    join named as b using (youtube_id, time_start, time_end)
    where a.dataset < b.dataset and a.name <> b.name
),

counted as (
    select
        name_a,
        name_b,
        count(distinct clip) as clips,
        count(distinct clip) filter (dataset_a = 'k400' and dataset_b = 'k600') as k400_k600,
        count(distinct clip) filter (dataset_a = 'k400' and dataset_b = 'k700') as k400_k700,
        count(distinct clip) filter (dataset_a = 'k600' and dataset_b = 'k700') as k600_k700,
    from differing
    group by name_a, name_b
),

merged as (
    select
        least(alias, label_name) as name_a,
        greatest(alias, label_name) as name_b,
    from merges
)

select
    name_a,
    name_b,
    merged.name_a is not null as merged,
    coalesce(clips, 0) as clips,
    coalesce(k400_k600, 0) as k400_k600,
    coalesce(k400_k700, 0) as k400_k700,
    coalesce(k600_k700, 0) as k600_k700,
from counted
full join merged using (name_a, name_b)
order by merged desc, clips desc, name_a, name_b
