-- Copies that were known before and lie in none of $roots, which end in a slash: they stay.
-- One row per copy, or several: locations.sql takes one. Columns as `seen`.
select
    uri,
    member,
    bytes,
    mtime_ns,
    inode,
    why,
    3 as precedence,
from (
    select uri, member, bytes, mtime_ns, inode, why,
    from former

    union all by name

    select uri, bytes,
    from fetched_files
)
where
    uri is not null
    and not coalesce(
        list_bool_or(list_transform($roots, lambda root: starts_with(uri || '/', root))),
        false  -- no roots
    )
