-- One row per train row and labelled val row that its k710 view does not hold, with the reason.
-- Key: (source_file, source_line). Order: as in annotations.
with

kept as (
    select
        view,
        youtube_id,
        contest,
        clip_id(youtube_id, time_start, time_end) as clip_id,
    from verdicts
    where place = 1
)

select
    annotations.* exclude (file_row_number),
    case
        when verdicts.place is null then 'held_out'
        when $dedup = 'clip' and split = 'train' then 'duplicate_clip'
        else 'duplicate_id'
    end as reason,
    kept.clip_id as kept_clip_id,
    case when verdicts.place is null then names_of(
        verdicts.found_in & $protected,
        $lists
    ) end as held_out_by,
from verdicts
join annotations on annotations.file_row_number = verdicts.annotation_row
left join kept
    on kept.view = verdicts.view
    and kept.youtube_id = verdicts.youtube_id
    and kept.contest is not distinct from verdicts.contest
    and verdicts.place is not null
where verdicts.place is distinct from 1
order by verdicts.annotation_row
