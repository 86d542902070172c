-- Which clips of a view can be listed as the trimmed files that they are. One row per clip of $view. Key: clip_id.
-- Order: youtube_id, time_start, time_end. `reason` null: at $root || path. Inputs: manifest, sources, classes.
select
    manifest.clip_id,
    manifest.youtube_id,
    manifest.time_start,
    manifest.time_end,
    classes.class_index,  -- in the order of the family
    classes.class_name,
    substr(sources.uri, length($root) + 1) as path,
    sources.bytes,
    sources.uri,
    sources.tool = 'index' as never_opened,
    case
        when $needs_label and manifest.label is null then 'unlabelled'
        when
            sources.status <> 'ok'
            and not (
                sources.status = 'truncated'
                and is_enough(sources.duration_s, manifest.time_start, manifest.time_end)
            )
            then sources.status
        when sources.member is not null then 'archived'
        when sources.trimmed is null then 'undecided'
        when not sources.trimmed then 'whole'
        when not starts_with(sources.uri, $root) then 'elsewhere'
    end as reason,
from manifest
join sources using (clip_id)
left join classes on classes.k710_row = manifest.label
where manifest.view = $view
order by youtube_id, time_start, time_end
