-- Optimizer steps that the figures of a run count, one row per iteration, from current_batches.
-- attempt: attempt of its last micro-batch
-- batches: number of its micro-batches
-- finite_batches: micro-batches with a finite loss
-- updated_batches: micro-batches with a finite loss that the chain allowed to update
-- skipped_batches: all other micro-batches
-- stepped: true if the optimizer took the step, by measurement; without a measurement, true if a batch was allowed to update and the step was not refused
select run_id, iter_num, max(attempt) as attempt, count(*) as batches, count(*) filter (finite) as finite_batches,
    count(*) filter (contributed) as updated_batches, count(*) filter (not contributed) as skipped_batches,
    coalesce(bool_or(applied_update), false)
        or coalesce(bool_or(ends_step and applied_update is null), false) and bool_or(updated) and bool_and(step) as stepped
from current_batches group by run_id, iter_num
