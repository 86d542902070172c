-- The clips of $view, in shards or not: what a test should cover. One row per clip. Order: clip_id.
select
    clip_id,
    coalesce(label, -1)::smallint as label,
from manifest
where view = $view
order by clip_id
