-- Where did the limiter act on more than half of the batches?
select run_id, reason_code, iter_num // 100 * 100 as from_iter, count(*) as hits, max(overshoot) as worst
from limiter_decisions where not superseded and signed and rank = 0 group by all having hits > 50 order by hits desc, run_id, from_iter, reason_code
