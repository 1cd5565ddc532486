-- text: The gradient is clipped in at most {value} of the optimizer steps
-- use: the learning rate must fit the gradient ceiling
-- op: <=
-- threshold: value
-- unit: ratio
-- min_n: 1
-- parameter value: share; share of the steps with a measured gradient; example 0.1
select avg((clipped_grad_norm < grad_norm * (1 - 1e-6))::int) as value, count(*) as n
from current_batches
where run_id = $candidate and applied_update and clipped_grad_norm is not null
    and list_contains(measured_gauges, 'grad_norm')
