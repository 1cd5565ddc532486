-- How did loss, update rate, learning rate and lambda of several runs change?
-- runs: IDs of the runs
with batches as (
    select c.run_id, c.iter_num, c.tokens_seen, c.task_loss, c.finite, c.updated, coalesce(c.applied_update, c.updated) as stepped,
        coalesce(c.applied_learning_rates[1], c.learning_rate) as rate, c.lambda_ockham,
        1 + c.updated::int * v.backward_over_forward as passes
    from current_batches c join run_savings v using (run_id) where list_contains($runs::varchar[], c.run_id)
), sized as (
    select greatest(1, ceil((max(iter_num) + 1) / 300.0))::bigint as width from batches
), binned as (
    select run_id, iter_num // width * width as iter, max(tokens_seen) as tokens, sum(passes) as passes,
        median(task_loss) filter (finite) as loss, avg(updated::int) filter (finite) as update_rate,
        median(rate) filter (stepped) as learning_rate, median(lambda_ockham) filter (stepped) as "lambda"
    from batches, sized group by run_id, iter
)
select run_id, iter, tokens, sum(passes) over (partition by run_id order by iter) as compute, loss, update_rate, learning_rate, "lambda"
from binned order by run_id, iter
