-- What more than one table says in the same words.

-- The name of a clip, as Kinetics names its files: <id>_<start>_<end>, six digits each.
create or replace temp macro clip_id(youtube_id, time_start, time_end) as concat(
    youtube_id,
    '_',
    substr((1000000 + time_start)::varchar, 2),  -- three times as fast as printf('%06d')
    '_',
    substr((1000000 + time_end)::varchar, 2)
);

-- What names a copy of a clip: a file, or a member of an archive, of so many bytes. Null without a file.
create or replace temp macro copy_id(uri, member, bytes) as
    case when uri is not null then md5(concat(uri, chr(0), member, chr(0), bytes)) end;

-- Whether a truncated clip is kept: half of its window is there, as in k710/video/cut.py.
create or replace temp macro is_enough(found_s, time_start, time_end) as
    coalesce(found_s * 2 >= time_end - time_start, false);

-- Whether bit `place` of a found_in mask is set, places from 1.
create or replace temp macro holds(found_in, place) as
    found_in >> (place - 1)::smallint & 1 = 1;

-- The names behind a found_in mask, in the order of `lists`.
create or replace temp macro names_of(found_in, lists) as
    list_filter(lists, lambda list, place: holds(found_in, place));
