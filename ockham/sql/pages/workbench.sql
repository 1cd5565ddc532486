-- Which runs exist, what are their results and notes, and what needs attention on which page?
with summary as materialized (
    select r.run_id, r.created, r.state, r.policy, r.policy_revision, r.data, r.data_sha256, r.seed, r.git_commit, s.batches, s.last_iter,
        s.update_rate, s.evaluations, s.accept_rate, s.val_loss, s.best_val_loss, s.nonfinite, s.unsigned_events
    from runs r join run_summary s using (run_id)
), bands as (
    select s.run_id, s.batches, s.evaluations, s.update_rate, s.accept_rate,
        (p.content -> '$.targets.update_rate[0]')::double as update_low, (p.content -> '$.targets.update_rate[1]')::double as update_high,
        (p.content -> '$.targets.accept_rate[0]')::double as accept_low, (p.content -> '$.targets.accept_rate[1]')::double as accept_high
    from summary s join policies p using (run_id, policy_revision)
), failures as (
    -- One scan for both types: with many runs each further scan takes as long again.
    select run_id, type as kind from events
    where type in ('ockham.adapter.reverted.v1', 'ockham.rank.diverged.v1') and signed
        and (type = 'ockham.rank.diverged.v1' or not (data ->> '$.identical')::boolean)
    group by run_id, type
), problems as (
    -- With fewer batches or evaluations a rate can be outside the band by chance.
    select run_id, 'update rate ' || round(100 * update_rate, 1) || ' % is outside its band of ' || round(100 * update_low)::integer || ' to ' || round(100 * update_high)::integer || ' %' as what, 'gate' as page
    from bands where batches >= 200 and not update_rate between update_low and update_high
    union all select run_id, 'accept rate ' || round(100 * accept_rate, 1) || ' % is outside its band of ' || round(100 * accept_low)::integer || ' to ' || round(100 * accept_high)::integer || ' %', 'memory'
    from bands where batches >= 200 and evaluations >= 20 and accept_rate > 0 and not accept_rate between accept_low and accept_high
    -- A band that starts at 0 allows that no checkpoint is accepted.
    union all select run_id, 'never accepted a checkpoint in ' || evaluations || ' evaluations', 'memory' from bands where batches >= 200 and evaluations >= 20 and accept_rate = 0 and coalesce(accept_low, 1) > 0
        and run_id not in (select run_id from memory_decisions where shadow and signed)
    union all select run_id, 'no run.finished event: the run is still active or was killed', 'run' from summary where state = 'UNFINISHED'
    union all select run_id, 'ended with ' || state, 'run' from summary where state not in ('UNFINISHED', 'COMPLETED')
    union all select run_id, 'batches with a non-finite loss: ' || nonfinite, 'run' from summary where nonfinite > 0
    union all select run_id, case kind when 'ockham.rank.diverged.v1' then 'ranks decided differently' else 'disabling the adapter did not restore the base weights' end,
        case kind when 'ockham.rank.diverged.v1' then 'integrity' else 'run' end from failures
    union all select run_id, 'the log reports missing events: ' || kind, 'integrity' from log_gaps where kind <> 'recovered' and signed
    union all select run_id, 'unsigned events are not counted: ' || unsigned_events, 'integrity' from summary where unsigned_events > 0
), notes as (
    select run_id, count(*) as notes, arg_max(reason, time) as last_note
    from people where kind = 'note.added' and counted group by run_id
), listed as (
    select run_id, list(what order by what, page) as attention, list(page order by what, page) as attention_pages from problems group by run_id
)
select s.run_id, s.created, s.state, s.policy, s.data, s.batches, s.last_iter, s.update_rate, s.evaluations, s.accept_rate, s.val_loss,
    s.best_val_loss, coalesce(p.attention, []) as attention, coalesce(p.attention_pages, []) as attention_pages,
    n.last_note, coalesce(n.notes, 0) as notes, s.policy_revision, s.data_sha256, s.seed, s.git_commit
from summary s left join listed p using (run_id) left join notes n using (run_id)
order by s.created desc, s.run_id
