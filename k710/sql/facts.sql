-- What is known of a copy as a copy of a clip. One row per (clip, copy). Key: (clip_id, uri, member, bytes).
-- Decoding knows best, then this run's probe, then what the table said before.
with

found as (
    select distinct uri, member, bytes, true as is_found,
    from copies
    where is_found
),

told as (
    -- That no decoder could find it counts until it is seen again.
    select 1 as precedence, decoded.* exclude (shard, position, stored),
    from decoded
    left join found
        on found.uri = decoded.uri
        and found.member is not distinct from decoded.member
        and found.bytes is not distinct from decoded.bytes
    where status <> 'missing' or is_found is null

    union all by name

    select 2 as precedence, *,
    from probed

    union all by name

    -- Why a copy that is there was said to be missing is asked anew: candidates.sql.
    select
        3 as precedence,
        * replace (
            nullif(status, 'missing') as status,
            case when status <> 'missing' then detail end as detail,
            case when status <> 'missing' then tool end as tool
        ),
    from former
)

select * exclude (precedence),
from told
where uri is not null
qualify row_number() over (
    partition by clip_id, uri, member, bytes
    order by precedence
) = 1
