-- Every run: who, when, on which code, data and policy (run.json of its folder).
-- run_id: ID of the run, the name of its folder
-- created: when run.json was written, UTC
-- state: running or torn (no end in the log), else the reason code of its newest end
-- attempts: starts and resumes so far
-- policy: name of the policy that it is under now
-- policy_revision: digest of that policy
-- data: name of the training data
-- data_sha256: digest of the training data
-- model_params: parameters, tied ones counted once
-- max_iters: planned optimizer steps
-- seed: of weights, batches and plugins
-- settings: the trainer's settings, JSON
-- git_commit: commit of the folder that it was started in
-- git_changed: whether that folder differed from the commit
-- verifier_key: key that its tree heads are said to be signed with
select
    j.run_id, j.created,
    coalesce(f.reason_code, 'UNFINISHED') as state,
    coalesce(a.attempts, 0)::integer as attempts,
    p.policy, coalesce(l.policy_revision, j.policy_revision) as policy_revision,
    j.data, j.data_sha256, j.model_params, j.max_iters, j.seed, j.settings, j.user_name, j.host, j.python, j.platform,
    j.git_commit, j.git_changed, j.verifier_key
from raw_runs j
left join (select run_id, count(distinct attempt) as attempts from raw_events where type in ('ockham.run.started.v1', 'ockham.run.resumed.v1') group by run_id) a using (run_id)
left join (select run_id, arg_max(data ->> '$.policy_revision', attempt) as policy_revision from raw_events where type = 'ockham.policy.loaded.v1' group by run_id) l using (run_id)
left join (select run_id, arg_max(data ->> '$.policy', attempt) as policy from raw_events where type = 'ockham.policy.loaded.v1' group by run_id) p using (run_id)
left join (
    select e.run_id, arg_max(e.data ->> '$.reason_code', e.attempt) as reason_code
    from raw_events e
    where e.type = 'ockham.run.finished.v1'
      and e.attempt = (select max(x.attempt) from raw_events x where x.run_id = e.run_id and x.type in ('ockham.run.started.v1', 'ockham.run.resumed.v1'))
    group by e.run_id
) f using (run_id)
