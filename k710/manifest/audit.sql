-- The laws that the tables keep, whatever the lists hold. One row per broken law: none, if all is well.
with

counts as (
    select
        (select count(*) from annotations where split = 'train') as train_rows,
        (select count(*) from annotations where split = 'val' and label is not null) as val_rows,
        (select count(*) from manifest where view = 'k710/train') as train_clips,
        (select count(*) from manifest where view = 'k710/val') as val_clips,
        (select count(*) from dropped where split = 'train') as train_dropped,
        (select count(*) from dropped where split = 'val') as val_dropped,
        (
            select count(*)
            from dropped
            where (reason = 'held_out') is distinct from (held_out_by is not null)
                or (reason = 'held_out') is distinct from (kept_clip_id is null)
        ) as unexplained,
        (
            select count(*)
            from manifest
            where view = 'k710/train' and youtube_id in (
                select youtube_id
                from annotations
                where split in $protect
            )
        ) as leaked,
        (
            select count(*) - count(distinct (view, youtube_id))
            from manifest
            where view = 'k710/val' or (view = 'k710/train' and $dedup = 'id')
        ) as repeated_ids
)

select 'train rows = k710/train + dropped train rows' as law
from counts
where train_rows <> train_clips + train_dropped

union all

select 'labelled val rows = k710/val + dropped val rows'
from counts
where val_rows <> val_clips + val_dropped

union all

select 'every dropped row has its reason'
from counts
where unexplained > 0

union all

select 'no id of k710/train is in a protected list'
from counts
where leaked > 0

union all

select 'one row per id in k710 views'
from counts
where repeated_ids > 0
