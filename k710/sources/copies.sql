-- The copies of each clip, in the order in which they are taken, and what is known of each.
-- One row per (clip, copy). Key and order: (clip_id, place).
-- One that is gone is forgotten where there is one as large for the clip: it was moved.
select * exclude (copy_id),
from candidates
where
    why is null
    or not exists (
        select 1
        from candidates as live
        where live.clip_id = candidates.clip_id
            and live.bytes = candidates.bytes
            and live.why is null
    )
order by clip_id, place
