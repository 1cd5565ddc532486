-- How did validation loss and OQ change, in at most 100 points?
-- run: run ID
with m as (
    select iter_num, attempt, sequence, loss, occam_quotient / arg_min(occam_quotient, (attempt, sequence)) filter (accepted) over () - 1 as gain,
        ntile(100) over (order by attempt, sequence) as part
    from memory_decisions where run_id = $run and counted
)
select max(iter_num) as iter, arg_max(loss, (attempt, sequence)) filter (isfinite(loss)) as val_loss, arg_max(gain, (attempt, sequence)) filter (isfinite(gain)) as gain
from m group by part order by part
