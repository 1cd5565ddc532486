-- How does the Occam Quotient change, relative to the first candidate?
select run_id, iter_num, loss, occam_quotient / first_value(occam_quotient) over (partition by run_id order by iter_num) - 1 as gain,
    accepted, failed_gate
from memory_decisions where not superseded and signed and rank = 0 order by run_id, iter_num
