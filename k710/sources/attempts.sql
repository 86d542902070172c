-- The lines of the ledger that are attempts. One row per attempt at a video. Key: place.
-- place: the larger, the later. A file grows at its end, so a time after that of a line below it, or after now, is that of
-- a wrong clock: such a line counts as no younger than the one above it, or one dated ahead would hide all that came later.
with

bounded as (
    select
        file,
        line,
        ended_at,
        least(
            $now,
            min(ended_at) over (
                partition by file
                order by line
                rows between current row and unbounded following
            )
        ) as at_latest,
    from lines
    where is_good
),

timed as (
    select
        file,
        line,
        max(case when ended_at <= at_latest then ended_at end) over (
            partition by file
            order by line
        ) as since,
    from bounded
),

placed as (
    select file, line, row_number() over (order by since nulls first, file, line) as place,
    from timed
)

select
    place,
    lines.* exclude (file, line, is_good),
    false as is_unexplained,
from lines
join placed using (file, line)
