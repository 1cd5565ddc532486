-- How fast did a run train, in 20 equal parts? By the times of the batches, so evaluations and waiting are included.
with timed as (
    -- The first batch of an attempt has no start in the log.
    select run_id, attempt, iter_num, micro_step,
        epoch(time) - lag(epoch(time)) over (partition by run_id, attempt order by sequence) as seconds,
        tokens_seen - lag(tokens_seen) over (partition by run_id, attempt order by sequence) as tokens
    from current_batches
), numbered as (
    select *, ntile(20) over (partition by run_id order by iter_num, micro_step) as part from timed where seconds is not null
)
select run_id, part, min(iter_num) as from_iter, max(iter_num) as to_iter, count(*) as batches, sum(seconds) as seconds,
    count(*) / nullif(sum(seconds), 0) as batches_per_second,
    nullif(sum(tokens), 0) / nullif(sum(seconds), 0) as tokens_per_second
from numbered group by run_id, part order by run_id, part
