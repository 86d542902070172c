-- What became of each copy. One row per distinct copy. Key: (uri, member, bytes).
with

every as (
    select distinct uri, member, bytes,
    from copies
),

used as (
    select distinct uri, member, bytes, true as is_used,
    from sources
    where uri is not null
),

fitting as (
    select distinct uri, member, bytes, true as is_fitting,
    from candidates
)

select
    every.uri,
    every.member,
    case
        when is_used then 'used'
        when is_fitting then 'duplicate'
        else 'unknown'
    end as fate,
from every
left join used
    on used.uri = every.uri
    and used.member is not distinct from every.member
    and used.bytes is not distinct from every.bytes
left join fitting
    on fitting.uri = every.uri
    and fitting.member is not distinct from every.member
    and fitting.bytes is not distinct from every.bytes
