-- How did the validation loss of several runs change?
-- runs: IDs of the runs
select run_id, iter_num as iter, max(tokens_seen) as tokens, arg_max(val_loss, (attempt, sequence)) as val_loss
from contexts
where hook = 'on_evaluate' and counted and isfinite(val_loss) and list_contains($runs::varchar[], run_id)
group by run_id, iter_num order by run_id, iter
