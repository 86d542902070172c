-- The videos that are to be fetched, each for all of its windows. One row per YouTube id. Key: youtube_id.
-- Order: place, a permutation that is the same everywhere, and no class order. A video is in one part, whatever happens.
with

tried as (
    select youtube_id, count(*) as num_attempts,
    from attempts
    group by youtube_id
),

pending as (
    select distinct clip_id, youtube_id, time_start, time_end,
    from manifest
    join sources using (clip_id)
    where list_contains($views, view)
        and (list_contains($statuses, status) or list_contains($again, status))
        and (status <> 'ours' or uri is null or list_contains($again, status))
        and ($labels is null or list_contains($labels, label))
        and ('0x' || left(md5(youtube_id), 8))::bigint % $num_parts = $part - 1
)

select
    row_number() over (order by md5(youtube_id), youtube_id) - 1 as place,
    youtube_id,
    list((clip_id, time_start, time_end) order by time_start, time_end, clip_id) as clips,
    coalesce(any_value(num_attempts), 0) as num_attempts,
from pending
left join tried using (youtube_id)
group by youtube_id
order by place
