-- Which candidates missed the efficiency gate by the smallest margin? Finite margins of a memory that acts.
select run_id, iter_num, oq_improvement, oq_limit, oq_limit - oq_improvement as missing, loss, decision_id
from memory_decisions where reason_code = 'REJECTED_OQ_INSUFFICIENT' and acting and isfinite(oq_limit - oq_improvement)
order by missing, run_id, iter_num, attempt, sequence limit 20
