-- What the names of copies say, by the first rule that says anything: ID_000012_000022 a clip, ID a video, the names of
-- --name-pattern, and those that other programs give: v_ID, Title [ID], Title-ID, class_ID_12_22. But for the first two
-- an id must be one of the manifest: titles have words of eleven letters.
-- One row per copy and reading. Key: (copy_id, youtube_id, time_start, time_end).
with

exact as (
    select
        copy_id,
        case when length(stem) > 11 then 1 else 3 end as precedence,
        substr(stem, 1, 11) as youtube_id,
        substr(stem, 13, 6) as start_text,
        substr(stem, 20, 6) as end_text,
    from stems
    where regexp_full_match(stem, '[A-Za-z0-9_-]{11}(_[0-9]{6}_[0-9]{6})?')
),

others as (
    select copy_id, stem,
    from stems
    anti join exact using (copy_id)
),

usual as (
    select
        copy_id,
        regexp_extract(
            stem,
            '(?:^|[^A-Za-z0-9])([A-Za-z0-9_-]{11})_([0-9]{1,6}(?:\.0+)?)_([0-9]{1,6}(?:\.0+)?)$',
            ['youtube_id', 'start_text', 'end_text']
        ) as reading,
    from others

    union all

    select
        copy_id,
        {
            'youtube_id': regexp_extract(stem, '(?:^|[^A-Za-z0-9])([A-Za-z0-9_-]{11})\]?$', 1),
            'start_text': '',
            'end_text': ''
        } as reading,
    from others
),

told as (
    from exact

    union all by name

    select *, 2 as precedence,
    from pattern_names
    semi join wanted using (youtube_id)

    union all by name

    select copy_id, reading.*, 4 as precedence,
    from usual
    where reading.youtube_id in (select youtube_id from wanted)
),

timed as (
    select
        *,
        try_cast(regexp_replace(nullif(start_text, ''), '\.0+$', '') as integer) as time_start,
        try_cast(regexp_replace(nullif(end_text, ''), '\.0+$', '') as integer) as time_end,
    from told
)

select distinct copy_id, youtube_id, time_start, time_end,
from timed
where (start_text = '' or time_start is not null) and (end_text = '' or time_end is not null)
qualify precedence = min(precedence) over (partition by copy_id)
