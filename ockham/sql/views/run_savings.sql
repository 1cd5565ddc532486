-- Compute that skipped batches saved, one row per run: an estimate from the stage times of rank 0, over all attempts. See docs/figures.md.
-- batches: micro-batches that went through the chain
-- updated_batches: micro-batches that the chain allowed to update, also with a loss that is not finite
-- complete_steps: iterations whose last micro-batch is in the log
-- updated_steps: complete steps with a micro-batch that the chain allowed to update
-- world_size: number of ranks
-- forward_seconds: mean time of forward per micro-batch
-- backward_seconds: mean time of backward per micro-batch that has one
-- optimizer_seconds: mean time of the optimizer per step that has one
-- chain_seconds: total time of the chain and the log
-- backward_over_forward: cost of backward and optimizer divided by the cost of forward, per micro-batch
-- chain_share: chain_seconds / compute of always updating; null with several ranks, because it contains waiting
-- seconds_saved: seconds that the skips saved on one rank
-- compute_saved: estimated share of the compute of always updating that the skips saved; 0 if nothing was skipped
-- compute_saved_low: lower end of its 95 % interval; null if a stage was measured once
-- compute_saved_high: upper end of its 95 % interval; null if a stage was measured once
-- compute_saved_reason: why compute_saved is null: NO_BATCHES, NOTHING_UPDATED, NO_STAGE_TIMES or WAITED_FOR_RANKS
with ranks as (
    select run_id, max((data ->> '$.world_size')::bigint) as world_size from events
    where type between 'ockham.run.resumed.v1' and 'ockham.run.started.v1' and type in ('ockham.run.resumed.v1', 'ockham.run.started.v1')
        and signed and "rank" = 0
    group by run_id
), steps as (
    select run_id, count(*) filter (ended) as complete_steps, count(*) filter (ended and accepted) as updated_steps
    from (select run_id, iter_num, bool_or(ends_step) as ended, bool_or(updated) as accepted from current_batches group by run_id, iter_num)
    group by run_id
), stages as (
    select run_id, count(*) as batches, count(*) filter (updated) as updated_batches, avg(forward) as forward_seconds,
        avg(backward) as backward_seconds, count(backward) as timed_backward, var_samp(backward) as backward_variance,
        avg(optimizer) as optimizer_seconds, count(optimizer) as timed_optimizer, var_samp(optimizer) as optimizer_variance,
        coalesce(sum(chain), 0) as chain_seconds
    from (
        select run_id, updated, seconds['forward'] as forward, seconds['backward'] as backward,
            seconds['optimizer'] as optimizer, seconds['chain'] as chain
        -- Otherwise the last digits of the sums differ between Parquet files and lines.
        from current_batches order by run_id, iter_num, micro_step
    ) group by run_id
), counted as (
    select s.*, t.complete_steps, t.updated_steps, coalesce(r.world_size, 1) as world_size, s.batches - s.updated_batches as skipped,
        t.complete_steps - t.updated_steps as skipped_steps, s.forward_seconds > 0 and s.timed_backward > 0 as timed
    from stages s join steps t using (run_id) left join ranks r using (run_id)
), priced as (
    select *, skipped * coalesce(backward_seconds, 0) + skipped_steps * coalesce(optimizer_seconds, 0) as saved,
        batches * coalesce(forward_seconds, 0) + updated_batches * coalesce(backward_seconds, 0)
            + updated_steps * coalesce(optimizer_seconds, 0) as spent,
        -- Variance of the total time of the skipped ones, as a prediction from the measured ones.
        case when skipped = 0 then 0 else backward_variance * skipped * (1 + skipped / timed_backward::double) end
            + case when skipped_steps = 0 or timed_optimizer = 0 then 0
                else optimizer_variance * skipped_steps * (1 + skipped_steps / timed_optimizer::double) end as variance
    from counted
), reasoned as (
    select *, spent + saved as always,
        case when skipped = 0 then null when updated_batches = 0 then 'NOTHING_UPDATED' when not coalesce(timed, false) then 'NO_STAGE_TIMES'
            when world_size > 1 and chain_seconds > 0.1 * (spent + saved) then 'WAITED_FOR_RANKS' end as reason
    from priced
), estimated as (
    select *, case when skipped = 0 then 0 when reason is null then saved / always end as share,
        case when skipped = 0 then 0 when reason is null then 1.96 * sqrt(variance) * spent / (always * always) end as half_width
    from reasoned
)
select v.run_id, coalesce(e.batches, 0) as batches, coalesce(e.updated_batches, 0) as updated_batches,
    coalesce(e.complete_steps, 0) as complete_steps, coalesce(e.updated_steps, 0) as updated_steps, e.world_size, e.forward_seconds,
    e.backward_seconds, e.optimizer_seconds, e.chain_seconds,
    case when e.timed then (e.backward_seconds + coalesce(e.optimizer_seconds, 0) * e.complete_steps / e.batches) / e.forward_seconds
        end as backward_over_forward,
    case when e.timed and e.world_size = 1 then e.chain_seconds / e.always end as chain_share,
    case when e.skipped = 0 then 0 when e.reason is null then e.saved end as seconds_saved, e.share as compute_saved,
    -- greatest and least ignore null.
    case when e.half_width is not null then greatest(0, e.share - e.half_width) end as compute_saved_low,
    case when e.half_width is not null then least(1, e.share + e.half_width) end as compute_saved_high,
    case when e.run_id is null then 'NO_BATCHES' else e.reason end as compute_saved_reason
from runs v left join estimated e using (run_id)
