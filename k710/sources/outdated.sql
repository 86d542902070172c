-- Forget what sources.parquet said of downloads that went, or whose place another file has taken. No rows.
delete from former
where uri in (select uri from discarded)
    or exists (
        select 1
        from fetched_files
        where fetched_files.uri = former.uri and fetched_files.bytes <> former.bytes
    )
