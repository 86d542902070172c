-- Chosen copies that nothing was said of yet. One row per clip. Key: clip_id. Order: by where the bytes are.
-- After the clip's window all columns of sources, in their order, and the stamp.
select
    wanted.time_start,
    wanted.time_end,
    sources.* exclude (file_row_number),
    candidates.mtime_ns,
    candidates.inode,
from sources
join wanted using (clip_id)
join candidates
    on candidates.clip_id = sources.clip_id
    and candidates.copy_id = copy_id(sources.uri, sources.member, sources.bytes)
anti join probed
    on probed.clip_id = sources.clip_id
    and probed.uri = sources.uri
    and probed.member is not distinct from sources.member
where
    sources.status <> 'missing'
    -- What cost its worker is tried again.
    and (not starts_with(sources.tool, 'probe ') or sources.status = 'failed')
    and not starts_with(sources.tool, 'shard')
order by sources.uri, sources.member nulls first, sources.clip_id
