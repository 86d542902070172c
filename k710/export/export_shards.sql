-- Which clips of a view are in shards. One row per clip of $view. Key: clip_id. Order: youtube_id, time_start, time_end.
-- `reason` null: in its shard, and `path` is where it lies when shards are unpacked. Inputs: manifest, sources, index,
-- classes.
select
    manifest.clip_id,
    manifest.youtube_id,
    manifest.time_start,
    manifest.time_end,
    classes.class_index,  -- in the order of the family
    classes.class_name,
    format('{:06d}/{}.mp4', index.shard, manifest.clip_id) as path,
    index.bytes,
    false as never_opened,
    case
        when $needs_label and manifest.label is null then 'unlabelled'
        when
            index.clip_id is null
            and (
                sources.status = 'ok'
                -- A copy that no shard run has found too short.
                or (
                    sources.status = 'truncated'
                    and sources.trimmed
                    and is_enough(sources.duration_s, manifest.time_start, manifest.time_end)
                )
            )
            then 'unstored'
        when index.clip_id is null then sources.status
    end as reason,
    index.shard,
    index."offset",
    index.sha256,
from manifest
join sources using (clip_id)
left join index using (clip_id)
left join classes on classes.k710_row = manifest.label
where manifest.view = $view
order by youtube_id, time_start, time_end
