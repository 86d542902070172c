-- Where the listed clips are among all samples of the shards that hold any of them, counted from 0 through those shards.
-- One row per listed clip. Key and order: place. Inputs: exported (of export_shards), index.
with

samples as (
    select
        clip_id,
        row_number() over (order by shard, "offset") - 1 as place,
    from index
    semi join (from exported where reason is null) using (shard)
)

select place, clip_id, class_index, class_name,
from samples
join exported using (clip_id)
where reason is null
order by place
