-- One row per (view, clip): the views k710/train and k710/val, and each list as a view of its own.
-- Key: (view, youtube_id, time_start, time_end). Order: the same.
with

repeated as (
    select list, youtube_id, time_start, time_end,
    from listed
    group by list, youtube_id, time_start, time_end
    having count(*) > 1
),

-- Of exact duplicates inside one list, the first stays. They are few: only they are numbered.
own as (
    select listed.*,
    from listed
    anti join repeated using (list, youtube_id, time_start, time_end)

    union all

    (
        select listed.*,
        from listed
        semi join repeated using (list, youtube_id, time_start, time_end)
        qualify row_number() over (
            partition by list, youtube_id, time_start, time_end
            order by annotation_row
        ) = 1
    )
),

members as (
    select view, youtube_id, time_start, time_end, label, dataset, found_in,
    from verdicts
    where place = 1

    union all

    select list as view, youtube_id, time_start, time_end, label, dataset, found_in,
    from own
),

-- Sorted while the rows are narrow; what can be derived from them is added after.
sorted as (
    from members
    order by view, youtube_id, time_start, time_end
)

select
    view,
    clip_id(youtube_id, time_start, time_end) as clip_id,
    youtube_id,
    time_start,
    time_end,
    label,
    $label_names[label + 1] as label_name,
    dataset,
    names_of(found_in, $lists) as found_in,
from sorted
