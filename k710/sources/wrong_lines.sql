-- How many lines of each file of the ledger are objects, but no attempts, and the first of them. One row per file.
-- Key and order: file. What is no JSON is what a kill or a power cut left.
select file, count(*) as num_wrong, min(line) as first_line,
from lines
where not is_good
    and coalesce(ended_at::varchar, youtube_id, attempt::varchar, status) is not null
group by file
order by file
