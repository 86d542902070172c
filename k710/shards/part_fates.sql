-- How the clips of one part fared, by the outcomes of its shards. One row per clip. Key: clip_id. Order: none.
-- Of several places of a clip all but the last stayed empty.
select clip_id, status, uri,
from outcomes
qualify row_number() over (
    partition by clip_id
    order by shard desc
) = 1
