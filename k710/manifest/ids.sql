-- One row per YouTube id of the annotations. Key: youtube_id.
-- found_in says which lists hold it, as a bitmask: bit i - 1 stands for $lists[i]. Unlike list(), a mask needs no
-- memory that DuckDB can't spill to disk.
select
    youtube_id,
    bit_or(
        1::smallint << (list_position($lists, dataset || '/' || split) - 1)::smallint
    ) as found_in,
from annotations
group by youtube_id
