-- How long does each stage of a batch take? Micro-batches count.
with each as (
    select run_id, e.key as stage, e.value as s
    from (select run_id, unnest(map_entries(seconds)) as e from current_batches) where isfinite(e.value)
)
select run_id, stage, count(*) as batches, median(s) * 1000 as median_ms, quantile_cont(s, 0.99) * 1000 as p99_ms, sum(s) as total_seconds
from each group by all order by run_id, total_seconds desc, stage
