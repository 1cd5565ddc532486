-- What are the mean losses so far of a model that is trained while it is served? Each batch is scored before it updates the model.
-- run: run ID
-- low: first iteration
-- high: last iteration
with sized as (select greatest(1, ceil(($high - $low + 1) / 500.0))::bigint as width)
select iter_num // width * width as iter, arg_max(custom['served_loss'], (iter_num, micro_step)) as served_loss,
    arg_max(custom['served_new_loss'], (iter_num, micro_step)) as served_new_loss, arg_max(custom['served_familiar_loss'], (iter_num, micro_step)) as served_familiar_loss,
    count(*) as batches
from current_batches, sized where run_id = $run and iter_num between $low and $high
    and custom['served_loss'] is not null
group by 1 order by 1
