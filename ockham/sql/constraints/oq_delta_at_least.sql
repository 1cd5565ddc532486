-- text: The Occam Quotient at the last common evaluation is at least {value} above the baseline's
-- use: the change must pay for its parameters and FLOPs
-- op: >=
-- threshold: value
-- unit: ratio
-- min_n: 1
-- parameter value: ratio; relative gain; example 0.05
with points as (
    select run_id, iter_num, arg_max(occam_quotient, (attempt, sequence)) as quotient,
        arg_max({'vocabulary': vocab_size, 'tokens': inference_tokens, 'measured': inference_flops > 0,
            'inverse': abs(occam_quotient * val_loss * inference_flops * memory_footprint_mb - 1) < 1e-6},
            (attempt, sequence)) as spec
    from contexts where hook = 'on_evaluate' and counted and iter_num > 0 and run_id in ($baseline, $candidate)
        and occam_quotient is not null
    group by run_id, iter_num
)
-- Quotients that were computed in different ways are not comparable: NULL.
select case when c.spec = b.spec then c.quotient / b.quotient - 1 end as value, count(*) over () as n
from points c join points b using (iter_num)
where c.run_id = $candidate and b.run_id = $baseline
order by iter_num desc limit 1
