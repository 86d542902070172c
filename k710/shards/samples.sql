-- What the JSON of each clip in one shard says. One row per clip of $clip_ids. Key: clip_id. Order: theirs.
-- label is that of the k710 view, else of the first view by name that has one.
select
    clip_id,
    arg_min(label, (view not like 'k710/%', view)) filter (label is not null) as label,
    list(view order by view) as views,
    list(label order by view) as labels,
from manifest
where clip_id in (select unnest($clip_ids))
group by clip_id
order by list_position($clip_ids, clip_id)
