-- The clips of $view that are in shards. One row per clip. Key: clip_id. Order: shard, offset.
select
    clip_id,
    coalesce(manifest.label, -1)::smallint as label,  -- -1: a test list without labels
    index.shard,
    index."offset",
    index.bytes,
    index.num_frames,
    index.height,
    index.width,
    index.sha256,
from manifest
join index using (clip_id)
where manifest.view = $view
order by shard, "offset"
