-- How did losses, update rate, learning rate and lambda of several runs change, by iterations, tokens, seconds and compute?
-- runs: IDs of the runs
with batches as (
    select run_id, iter_num, tokens_seen, task_loss, finite, updated, lambda_ockham,
        coalesce(applied_update, updated) as stepped, coalesce(applied_learning_rates[1], learning_rate) as rate,
        seconds['forward'] as forward, seconds['backward'] as backward, seconds['optimizer'] as optimizer,
        -- The time between two attempts is not counted.
        coalesce(epoch_us(time) - lag(epoch_us(time)) over (partition by run_id, attempt order by sequence), 0) as elapsed
    from current_batches where list_contains($runs::varchar[], run_id)
), prices as (
    select avg(backward) / avg(forward) as backward, coalesce(avg(optimizer), 0) / avg(forward) as optimizer
    from batches having avg(forward) > 0 and count(backward) > 0
), steps as (
    select run_id, iter_num, count(*) as batches, count(*) filter (updated) as updates, max(tokens_seen) as tokens, sum(elapsed) as elapsed
    from batches group by run_id, iter_num
), positions as (
    select s.run_id, s.iter_num, nullif(max(s.tokens) over reached, 0) as tokens, sum(s.elapsed) over reached / 1e6 as seconds,
        sum(s.batches + s.updates * p.backward + t.stepped::int * p.optimizer) over reached as compute
    from steps s join current_steps t using (run_id, iter_num) left join prices p on true
    window reached as (partition by s.run_id order by s.iter_num)
), sized as (
    select greatest(1, ceil((max(iter_num) + 1) / 300.0))::bigint as width from batches
), binned as (
    select run_id, iter_num // width * width as iter, max(iter_num) as last_iter, median(task_loss) filter (finite) as loss,
        avg(updated::int) filter (finite) as update_rate, median(rate) filter (stepped) as learning_rate,
        median(lambda_ockham) filter (stepped) as "lambda"
    from batches, sized group by run_id, iter
), losses as (
    select run_id, iter_num, arg_max(val_loss, (attempt, sequence)) as val_loss
    from evaluations where counted and list_contains($runs::varchar[], run_id) group by run_id, iter_num
)
select b.run_id, b.iter, false as is_evaluation, p.tokens, p.seconds, p.compute, null::double as val_loss, b.loss, b.update_rate, b.learning_rate, b."lambda"
from binned b join positions p on p.run_id = b.run_id and p.iter_num = b.last_iter
union all
select e.run_id, e.iter_num, true, p.tokens, p.seconds, p.compute, e.val_loss, null, null, null, null
from losses e asof left join positions p on p.run_id = e.run_id and p.iter_num <= e.iter_num
where isfinite(e.val_loss)
order by 1, 3, 2
