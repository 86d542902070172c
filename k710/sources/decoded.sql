-- What came of a clip in the last shard that has a place for it. One row per clip. Key: clip_id.
from recorded
qualify row_number() over (
    partition by clip_id
    order by shard desc, position desc
) = 1
