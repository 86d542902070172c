-- The $most most frequent messages for each status of clips that are not stored.
-- One row per (view, state, status, message); view is null: of all wanted views, each clip once.
-- Key: the same. Order: view (null first), state, status, clips descending, message.
with

failed as (
    select *,
    from states
    where state in ('pending', 'final') and detail is not null
),

counted as (
    select view, state, status, detail, count(*) as clips,
    from manifest
    join failed using (clip_id)
    where list_contains($views, view)
    group by view, state, status, detail

    union all by name

    select null as view, state, status, detail, count(*) as clips,
    from failed
    group by state, status, detail
)

select view, state, status, detail, clips,
from counted
qualify row_number() over (
    partition by view, state, status
    order by clips desc, detail
) <= $most
order by view nulls first, state, status, clips desc, detail
