-- Which runs need attention, and which page shows why?
with bands as (
    select s.run_id, s.batches, s.evaluations, s.update_rate, s.accept_rate,
        (p.content -> '$.targets.update_rate[0]')::double as update_low, (p.content -> '$.targets.update_rate[1]')::double as update_high,
        (p.content -> '$.targets.accept_rate[0]')::double as accept_low, (p.content -> '$.targets.accept_rate[1]')::double as accept_high
    from run_summary s join runs r using (run_id) join policies p on p.run_id = s.run_id and p.policy_revision = r.policy_revision
)
-- With fewer batches or evaluations a rate can be outside the band by chance.
select run_id, 'update rate ' || round(100 * update_rate, 1) || ' % is outside its band of ' || round(100 * update_low)::integer || ' to ' || round(100 * update_high)::integer || ' %' as what, 'gate' as page
from bands where batches >= 200 and not update_rate between update_low and update_high
union all select run_id, 'accept rate ' || round(100 * accept_rate, 1) || ' % is outside its band of ' || round(100 * accept_low)::integer || ' to ' || round(100 * accept_high)::integer || ' %', 'memory'
from bands where batches >= 200 and evaluations >= 20 and accept_rate > 0 and not accept_rate between accept_low and accept_high
-- A band that starts at 0 allows that no checkpoint is accepted.
union all select run_id, 'never accepted a checkpoint in ' || evaluations || ' evaluations', 'memory' from bands where batches >= 200 and evaluations >= 20 and accept_rate = 0 and coalesce(accept_low, 1) > 0
    and run_id not in (select run_id from memory_decisions where shadow and signed)
union all select run_id, 'no run.finished event: the run is still active or was killed', 'run' from runs where state = 'UNFINISHED'
union all select run_id, 'ended with ' || state, 'run' from runs where state not in ('UNFINISHED', 'COMPLETED')
union all select run_id, 'batches with a non-finite loss: ' || nonfinite, 'run' from run_summary where nonfinite > 0
union all select run_id, 'disabling the adapter did not restore the base weights', 'run' from events where type = 'ockham.adapter.reverted.v1' and not (data ->> '$.identical')::boolean and signed group by run_id
union all select run_id, 'ranks decided differently', 'integrity' from events where type = 'ockham.rank.diverged.v1' and signed group by run_id
union all select run_id, 'the log reports missing events: ' || kind, 'integrity' from log_gaps where kind <> 'recovered' and signed
union all select run_id, 'unsigned events are not counted: ' || unsigned_events, 'integrity' from run_summary where unsigned_events > 0
order by run_id limit 200
