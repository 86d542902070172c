-- Copies that the table knew and that lie in none of $roots, which end in a slash: they stay as they were recorded.
-- One row per copy. Key: (uri, member, bytes).
select distinct
    uri,
    member,
    bytes,
    false as is_found,
from former
where
    uri is not null
    and not list_bool_or(list_transform($roots, lambda root: starts_with(uri || '/', root)))
