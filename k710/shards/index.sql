-- One row per clip that is stored. Key: clip_id; also (shard, offset). Order: clip_id.
-- Input: rows, those of one shard, or of all.
select *
from rows
order by clip_id
