-- Which runs match the filter, and what are their results?
-- text: part of the name of the run, without distinction of case; empty for all
-- policies: names of policies; an empty list for all
-- states: states of runs; an empty list for all
-- datasets: names of data; an empty list for all
select r.run_id, r.created, r.state, r.policy, r.data, s.last_iter, s.batches, s.update_rate, s.evaluations, s.accept_rate,
    s.val_loss, s.best_val_loss, s.compute_saved, s.compute_saved_low, s.compute_saved_high, s.compute_saved_reason
from runs r join run_summary s using (run_id)
where contains(lower(r.run_id), lower($text))
    and (len($policies::varchar[]) = 0 or list_contains($policies::varchar[], r.policy))
    and (len($states::varchar[]) = 0 or list_contains($states::varchar[], r.state))
    and (len($datasets::varchar[]) = 0 or list_contains($datasets::varchar[], r.data))
order by r.created desc, r.run_id
