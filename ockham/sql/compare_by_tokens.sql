-- How do the validation losses of two runs compare after the same number of tokens? Finite losses only.
-- run_a: run ID; its evaluations are listed
-- run_b: run ID; its loss is interpolated between its evaluations
with points as (
    -- Of several evaluations after one batch, the last one counts.
    select run_id, tokens_seen as tokens, max(iter_num) as iter_num, arg_max(val_loss, (attempt, sequence)) as loss
    from contexts
    where hook = 'on_evaluate' and counted and run_id in ($run_a, $run_b) and tokens_seen > 0 and isfinite(val_loss)
    group by run_id, tokens_seen
), bounds as (
    select a.tokens, a.iter_num, a.loss, max(case when b.tokens <= a.tokens then b.tokens end) as below,
        min(case when b.tokens >= a.tokens then b.tokens end) as above
    from points a join points b on a.run_id = $run_a and b.run_id = $run_b group by a.tokens, a.iter_num, a.loss
), pairs as (
    select p.tokens, p.iter_num, p.loss as loss_a,
        case when p.above = p.below then l.loss
            else l.loss + (h.loss - l.loss) * (p.tokens - p.below) / (p.above - p.below) end as loss_b,
        p.above <> p.below as interpolated
    from bounds p join points l on l.run_id = $run_b and l.tokens = p.below
    join points h on h.run_id = $run_b and h.tokens = p.above
)
select tokens, iter_num as iter_a, loss_a, loss_b, loss_b - loss_a as difference, interpolated
from pairs order by tokens
