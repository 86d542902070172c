-- Where copies lie. One row per copy. Key: copy_id. why: what keeps it from being read; null: nothing that is known.
-- Of one place the nearest look counts (`precedence`), if a search found it or it is remembered. In an archive two
-- members may have one name.
select
    copy_id(uri, member, bytes) as copy_id,
    uri,
    member,
    bytes,
    mtime_ns,
    inode,
    why,
from seen
window
    here as (partition by uri, member, case when member is not null then bytes end),
    nearest as (
        partition by uri, member, case when member is not null then bytes end
        order by precedence, why nulls last, mtime_ns desc nulls last, inode, bytes desc nulls last
    )
qualify row_number() over nearest = 1 and max(precedence) over here >= 2
