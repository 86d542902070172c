-- One row per distinct clip of the manifest. Key: clip_id.
-- A clip can have another label in another view: datasets relabel.
select
    clip_id,
    any_value(youtube_id) as youtube_id,
    any_value(time_start) as time_start,
    any_value(time_end) as time_end,
    any_value(time_end) - any_value(time_start) as length_s,
    list(distinct label) filter (label is not null) as labels,
from manifest
group by clip_id
