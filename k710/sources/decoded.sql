-- What the last shard run that tried a clip made of it. One row per clip. Key: clip_id.
select *, copy_id(uri, member, bytes) as copy_id,
from recorded
qualify row_number() over (
    partition by clip_id
    order by shard desc, position desc
) = 1
