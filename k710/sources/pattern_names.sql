-- What $pattern says of names below $root, of copies that no pattern has read yet: rows of pattern_names.
-- A pattern with a slash in it is held against the whole path. $id, $start, $end: its groups; 0: it has none such.
select
    copy_id,
    regexp_extract(subject, $pattern, $id) as youtube_id,
    case when $start > 0 then regexp_extract(subject, $pattern, $start) else '' end as start_text,
    case when $end > 0 then regexp_extract(subject, $pattern, $end) else '' end as end_text,
from (
    select copy_id, case when contains($pattern, '/') then place else name end as subject,
    from stems
    where starts_with(uri || '/', $root)
)
anti join pattern_names using (copy_id)
where regexp_matches(subject, $pattern)
