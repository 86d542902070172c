-- What the videos of `todo` take: how many there are, and what attempts were like so far. One row.
with

done as (
    select len(clips) as num_clips, num_bytes, seconds,
    from attempts
    where status = 'ok' and num_bytes > 0 and ($policy = 'auto' or kind = $policy)
),

wanted as (
    select clips, len(clips) as num_clips,
    from todo
),

windows as (
    select unnest(clips) as clip,
    from wanted
)

select
    (select count(*) from wanted) as videos,
    (select coalesce(sum(num_clips), 0)::bigint from wanted) as clips,
    (select coalesce(sum(clip[3] - clip[2]), 0)::bigint from windows) as seconds,
    (select sum(num_bytes) / count(*) from done) as bytes_per_video,
    (select sum(num_bytes) / sum(num_clips) from done) as bytes_per_clip,
    (select sum(seconds) / count(*) from attempts where seconds > 0) as seconds_per_attempt,
