-- How many clips, of how many videos, were final by the rules of before, and are pending by those of now. One row.
-- `before` has the statuses of before; those of now are in `fetched`, by the ledger, or in `former`.
select count(*) as clips, count(distinct youtube_id) as videos,
from before
join wanted using (clip_id)
left join fetched using (clip_id)
left join former using (clip_id)
join statuses as statuses_before on statuses_before.status = before.status
join statuses as statuses_now
    on statuses_now.status = coalesce(fetched.status, former.status)
where statuses_before.state = 'final' and statuses_now.state = 'pending'
