-- What the JSON of each clip in one shard says. One row per clip of `places`. Key: clip_id. Order: position.
-- label is that of the k710 view, else of the first view by name that has one.
select
    clip_id,
    position,
    arg_min(label, (view not like 'k710/%', view)) filter (label is not null) as label,
    list(view order by view) as views,
    list(label order by view) as labels,
from places
join manifest using (clip_id)
group by clip_id, position
order by position
