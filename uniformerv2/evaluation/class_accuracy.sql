-- How each class fares in predictions. One row per class that has clips. Order: top-1, then label.
select
    label,
    count(*)::integer as clips,
    avg((top5[1] = label)::integer) as top1,
    avg(list_contains(top5, label)::integer) as top5,
from predictions
group by label
order by top1, label
