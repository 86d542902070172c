-- The clips of one view. Key: clip_id. Order: youtube_id, time_start, time_end.
select * exclude (file_row_number)
from manifest
where view = $view
order by file_row_number
