-- Which knob changes have no reason? Changes that took effect.
select run_id, plugin, hook, field, count(*) as n, min(iter_num) as first_iter
from hyperparameter_changes where reason_code = 'UNEXPLAINED' and acting group by all order by n desc, run_id, plugin, hook, field
