-- How many clips of each class have come to what, in each wanted view that has labels.
-- One row per (view, label), label a K710 row. Key: the same.
-- Order: view, then the smallest share that is stored, the largest that is lacking, most final clips, label.
select
    view,
    label,
    any_value(label_name order by label_name) as label_name,  -- one to each label
    count(*) as clips,
    count(*) filter (state = 'stored') as stored,
    count(*) filter (state = 'to_shard') as to_shard,
    count(*) filter (state = 'pending') as pending,
    count(*) filter (state = 'final') as final,
from manifest
join states using (clip_id)
where list_contains($views, view) and label is not null
group by view, label
order by view, stored / clips, (pending + final) / clips desc, final desc, label
