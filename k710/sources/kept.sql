-- Copies that the table or the ledger of downloads knew and that lie in none of $roots, which end in a slash: they stay.
-- One row per copy. Key: copy_id.
select distinct
    copy_id(uri, member, bytes) as copy_id,
    uri,
    member,
    bytes,
    false as is_found,
from (
    select uri, member, bytes,
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
