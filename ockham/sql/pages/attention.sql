-- What needs a look?
select run_id, 'no end in the log' as what from runs where state = 'UNFINISHED'
union all select run_id, 'ended with ' || state from runs where state not in ('UNFINISHED', 'COMPLETED')
union all select run_id, nonfinite || ' batches with a loss that is not finite' from run_summary where nonfinite > 0
union all select run_id, 'the log says that events are missing: ' || kind from log_gaps where kind <> 'recovered'
union all select run_id, 'never accepted a checkpoint' from run_summary where evaluations >= 20 and accepted = 0
union all select run_id, 'update rate ' || round(100 * update_rate, 1) || ' % is outside its band' from (
    select s.run_id, s.update_rate, (p.content -> '$.targets.update_rate[0]')::double as low, (p.content -> '$.targets.update_rate[1]')::double as high
    from run_summary s join runs r using (run_id) join policies p on p.run_id = s.run_id and p.policy_revision = r.policy_revision
    where s.batches >= 200
) where not update_rate between low and high
order by run_id limit 200
