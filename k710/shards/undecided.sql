-- How many clips of the wanted views have a copy of which nothing came yet, and of which something may: it could not be
-- read, is not told from other clips, failed on this machine, or waits for a shard. One row. With $shards as fates.sql.
select count(distinct clip_id) as clips,
from manifest
join fared using (clip_id)
join statuses using (status)
anti join index using (clip_id)
where
    list_contains($views, view)
    and uri is not null
    and (state = 'pending' or (status = 'ok' and $shards is null))
    and (
        $shards is null
        or clip_id in (select clip_id from plan where list_contains($shards, shard))
    )
