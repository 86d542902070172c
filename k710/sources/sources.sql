-- Where each clip of the manifest is, and how it fared. One row per distinct clip. Key and order: clip_id.
with

-- What is stored stays as it was stored, whatever there is now.
stored as (
    select * exclude (shard, position, stored),
    from decoded
    semi join wanted using (clip_id)
    where stored
),

chosen as (
    select * replace (
        case
            when why is not null or (trimmed and could_be is not null) then 'missing'
            else status
        end as status,
        case
            when why is not null then why
            when trimmed and could_be is not null
                then format(
                    'this trimmed copy could be any of {} windows: rename it to ID_start_end, like {}',
                    could_be,
                    clip_id
                )
            else detail
        end as detail,
        case
            when why is not null or (trimmed and could_be is not null) then 'index'
            else tool
        end as tool
    ),
    from candidates
    anti join stored using (clip_id)
    where place = 1
),

-- A download that held no good clip, and went when all else that it was fetched for was stored.
went as (
    select * exclude (shard, position, stored),
    from decoded
    semi join wanted using (clip_id)
    semi join discarded using (uri)
    anti join stored using (clip_id)
    anti join chosen using (clip_id)
),

-- What a download found out stays true until there is a copy.
without_copy as (
    select
        clip_id,
        coalesce(fetched.status, former.status, 'missing') as status,
        case when fetched.status is null then former.detail else fetched.detail end as detail,
        coalesce(fetched.tool, former.tool, 'index') as tool,
    from wanted
    anti join stored using (clip_id)
    anti join chosen using (clip_id)
    anti join went using (clip_id)
    left join fetched using (clip_id)
    left join former
        on former.clip_id = wanted.clip_id
        and former.uri is null
        and former.status <> 'missing'
),

rows as (
    from stored
    union all by name
    from chosen
    union all by name
    from went
    union all by name
    from without_copy
)

select
    clip_id,
    status,
    detail,
    uri,
    member,
    trimmed,
    starts_at_s,
    bytes,
    sha256,
    width,
    height,
    fps,
    num_frames,
    duration_s,
    codec,
    tool,
from rows
order by clip_id
