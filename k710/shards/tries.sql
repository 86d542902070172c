-- The copies that were tried for the places of one shard, and what was found: columns of sources, and the file's stamp.
-- One row per place and copy. Key and order: (position, turn). turn: 0 the first.
select *
from rows
order by position, turn
