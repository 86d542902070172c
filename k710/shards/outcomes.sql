-- One row per place in one shard: how its clip fared, with the columns of sources. Key and order: position.
-- stored: whether the clip is in the shard.
select *
from rows
order by position
