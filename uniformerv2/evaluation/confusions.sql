-- Which class is taken for which. One row per pair that occurs. Order: the most clips first.
with
sizes as (
    select
        label,
        count(*) as clips,
    from predictions
    group by label
)

select
    label,
    top5[1] as taken_for,
    count(*)::integer as clips,
    count(*) / any_value(sizes.clips) as share,  -- of the class; one value for each label
from predictions
join sizes using (label)
where top5[1] != label
group by label, taken_for
order by clips desc, share desc, label, taken_for
