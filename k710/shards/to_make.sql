-- What the shards to be made take, of `tasks`: one row.
select
    count(*) filter (is_tried) as clips,
    count(*) filter (not is_tried) as without_copy,
    coalesce(sum(time_end - time_start) filter (is_tried), 0)::bigint as seconds,
from tasks
where turn = 1
