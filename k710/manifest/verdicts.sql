-- The rules of K710: which annotation row gets into k710/train or k710/val, and which does not.
-- One row per train row and per labelled val row. Key: annotation_row.
-- place = 1: this row is in its view. place > 1: a better row of the same id (or clip) is. null: held out.
with

candidates as (
    select
        listed.*,
        'k710/' || split as view,
        -- A train video must not be in any protected list, whatever its window there.
        split = 'train' and found_in & $protected <> 0 as held_out,
        -- Rows with the same id compete for one place; under --dedup clip, train rows only with the same window.
        case
            when split = 'train' and $dedup = 'clip'
                then {'time_start': time_start, 'time_end': time_end}
        end as contest,
        list_position($prefer, dataset) as preference,
        $label_names[label + 1] as label_name,
    from listed
    where split = 'train' or (split = 'val' and label is not null)
)

select
    annotation_row,
    view,
    dataset,
    youtube_id,
    time_start,
    time_end,
    label,
    found_in,
    contest,
    case when not held_out then row_number() over (
        partition by view, held_out, youtube_id, contest
        order by
            preference,
            time_start,
            time_end,
            label_name,
            annotation_row
    ) end as place,
from candidates
