-- Which clip or video a copy is by its name. One row per copy whose name says just one. Key: copy_id.
select
    copy_id,
    any_value(folder) as folder,
    any_value(youtube_id) as youtube_id,
    any_value(time_start) as time_start,  -- null: the name has no window
    any_value(time_end) as time_end,
from readings
join stems using (copy_id)
group by copy_id
having count(*) = 1
