-- Every run: user, time, code, data and policy, from run.json.
-- run_id: ID of the run, the name of its folder
-- created: when run.json was written, UTC
-- state: UNFINISHED, or the reason code of the newest signed run.finished
-- attempts: number of starts and resumes
-- policy: name of the current policy
-- policy_revision: digest of the current policy
-- data: name of the training data
-- data_sha256: digest of the training data
-- model_params: number of parameters; tied parameters count once
-- max_iters: planned optimizer steps of the newest attempt
-- seed: seed of weights, batches and plugins
-- settings: settings of the trainer in the newest attempt, as JSON
-- user_name: user who started it
-- host: machine on which it was started
-- python: Python version
-- platform: operating system and processor
-- git_commit: git commit of the working folder
-- git_changed: true if the working folder differed from the commit
-- verifier_key: verifier key that run.json names for its tree heads
select
    j.run_id, j.created,
    case when e.ended = e.newest then e.reason_code else 'UNFINISHED' end as state,
    coalesce(e.attempts, 0)::integer as attempts,
    e.policy, coalesce(e.policy_revision, j.policy_revision) as policy_revision,
    j.data, j.data_sha256, j.model_params,
    coalesce((case when e.attempts > 1 then e.settings ->> '$.max_iters' end)::bigint, j.max_iters) as max_iters, j.seed,
    coalesce(case when e.attempts > 1 then e.settings end, j.settings) as settings, j.user_name, j.host, j.python, j.platform,
    j.git_commit, j.git_changed, j.verifier_key
from raw_runs j
left join (
    -- One look at the events: where there are many, each further one costs as much again.
    select run_id,
        count(distinct attempt) filter (where type <> 'ockham.policy.loaded.v1' and type <> 'ockham.run.finished.v1') as attempts,
        max(attempt) filter (where type <> 'ockham.policy.loaded.v1' and type <> 'ockham.run.finished.v1') as newest,
        max(attempt) filter (where type = 'ockham.run.finished.v1') as ended,
        arg_max(data ->> '$.settings', attempt) filter (where type <> 'ockham.policy.loaded.v1' and type <> 'ockham.run.finished.v1') as settings,
        arg_max(data ->> '$.reason_code', attempt) filter (where type = 'ockham.run.finished.v1') as reason_code,
        arg_max(data ->> '$.policy_revision', attempt * 1e12 + sequence) filter (where type = 'ockham.policy.loaded.v1') as policy_revision,
        arg_max(data ->> '$.policy', attempt * 1e12 + sequence) filter (where type = 'ockham.policy.loaded.v1') as policy
    from raw_events
    where type between 'ockham.policy.loaded.v1' and 'ockham.run.started.v1' -- the range is filtered in the scan
        and signed
        and type in ('ockham.run.started.v1', 'ockham.run.resumed.v1', 'ockham.policy.loaded.v1', 'ockham.run.finished.v1')
    group by run_id
) e using (run_id)
