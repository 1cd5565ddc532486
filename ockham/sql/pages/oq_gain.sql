-- How much did the quotient change from the first to the last accepted checkpoint?
-- run: run ID
select count(*) as candidates, count(*) filter (accepted) as accepted, bool_or(shadow) as shadow,
    arg_max(occam_quotient, (attempt, sequence)) filter (accepted) / arg_min(occam_quotient, (attempt, sequence)) filter (accepted) - 1 as gain
from memory_decisions where run_id = $run and counted
