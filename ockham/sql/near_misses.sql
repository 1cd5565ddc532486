-- Which candidates missed the efficiency gate by the smallest margin?
select run_id, iter_num, oq_improvement, oq_limit, oq_limit - oq_improvement as missing, loss, decision_id
from memory_decisions where reason_code = 'REJECTED_OQ_INSUFFICIENT' and not superseded and signed and rank = 0 order by missing, run_id, iter_num limit 20
