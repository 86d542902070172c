-- The statuses of clips, as k710/statuses.py has them. One row per status. Key: status. Order: none.
select
    unnest($status) as status,
    unnest($state) as state,
    unnest($retry) as retry,
    unnest($subject) as subject,
    unnest($is_bad_copy) as is_bad_copy,  -- the file was read, and no clip can be made of it
