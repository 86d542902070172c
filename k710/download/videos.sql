-- The videos that are to be fetched, each for all of its windows. One row per YouTube id. Key: youtube_id.
-- Order: place, a permutation that is the same everywhere, and no class order. A video is in one part, whatever happens.
-- afresh: a copy of it was no good, and it may be that which lies in its place. unexplained: the words of the last attempt,
-- if they are no known reason. is_given_up: $tool was told so $most_unexplained times, and is not told to ask again.
with

tried as (
    select
        youtube_id,
        count(*) as num_attempts,
        count(*) filter (is_unexplained and tool = $tool) as num_unexplained,
        last(case when is_unexplained then detail end order by place) as unexplained,
    from attempts
    group by youtube_id
),

pending as (
    select distinct clip_id, youtube_id, time_start, time_end, status, retry,
    from manifest
    join sources using (clip_id)
    join statuses using (status)
    anti join (select clip_id from outcomes where stored) as kept using (clip_id)
    where list_contains($views, view)
        and (
            list_contains($again, status)
            or retry = 'always'
            or (retry = 'without_copy' and uri is null)
        )
        and ($labels is null or list_contains($labels, label))
        and ('0x' || left(md5(youtube_id), 8))::bigint % $num_parts = $part - 1
)

select
    row_number() over (order by md5(youtube_id), youtube_id) - 1 as place,
    youtube_id,
    list((clip_id, time_start, time_end) order by time_start, time_end, clip_id) as clips,
    coalesce(any_value(num_attempts), 0) as num_attempts,
    bool_or(retry = 'asked') as afresh,
    any_value(unexplained) as unexplained,
    bool_and(status = 'failed' and not list_contains($again, status))
        and coalesce(any_value(num_unexplained), 0) >= $most_unexplained as is_given_up,
from pending
left join tried using (youtube_id)
group by youtube_id
order by place
