-- What became of each copy. One row per distinct copy. Key: copy_id.
with

used as (
    select distinct copy_id(uri, member, bytes) as copy_id, true as is_used,
    from sources
    where uri is not null
),

fitting as (
    select distinct copy_id, true as is_fitting,
    from candidates
)

select
    uri,
    member,
    case
        when is_used then 'used'
        when is_fitting then 'duplicate'
        else 'unknown'
    end as fate,
from (select distinct copy_id, uri, member from copies)
left join used using (copy_id)
left join fitting using (copy_id)
