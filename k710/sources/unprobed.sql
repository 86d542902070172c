-- Chosen copies that nothing was said of yet. One row per clip. Key: clip_id. Order: by where the bytes are.
-- After the clip's window all columns of sources, in their order.
select
    time_start,
    time_end,
    sources.* exclude (file_row_number),
from sources
join wanted using (clip_id)
anti join probed
    on probed.clip_id = sources.clip_id
    and probed.uri = sources.uri
    and probed.member is not distinct from sources.member
anti join (
    from decoded
    where status <> 'missing'
) as tried
    on tried.clip_id = sources.clip_id
    and tried.copy_id = copy_id(sources.uri, sources.member, sources.bytes)
where
    sources.uri is not null
    and sources.status <> 'missing'
    -- What cost its worker is tried again.
    and (not starts_with(sources.tool, 'probe ') or sources.status = 'failed')
order by sources.uri, sources.member nulls first, clip_id
