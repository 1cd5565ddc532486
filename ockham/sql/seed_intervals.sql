-- What are the results of equal runs with different seeds, as a mean with its 95 % interval? Completed runs.
with t(df, factor) as (
    -- Quantiles .975 of Student's t.
    values (1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (5, 2.5706), (6, 2.4469), (7, 2.3646), (8, 2.3060),
        (9, 2.2622), (10, 2.2281), (11, 2.2010), (12, 2.1788), (13, 2.1604), (14, 2.1448), (15, 2.1314), (16, 2.1199),
        (17, 2.1098), (18, 2.1009), (19, 2.0930), (20, 2.0860), (21, 2.0796), (22, 2.0739), (23, 2.0687), (24, 2.0639),
        (25, 2.0595), (26, 2.0555), (27, 2.0518), (28, 2.0484), (29, 2.0452), (30, 2.0423)
), finished as (
    select r.policy, r.policy_revision, r.data_sha256, r.model_params, r.max_iters, r.seed,
        regexp_replace(r.settings, '"seed": *[0-9]+', '') as settings,
        s.val_loss, s.best_val_loss, s.update_rate, s.accept_rate
    from runs r join run_summary s using (run_id) where s.state = 'COMPLETED'
), figures as (
    select policy, policy_revision, data_sha256, model_params, max_iters, settings, seed, 'val_loss' as figure,
        val_loss as amount from finished
    union all select policy, policy_revision, data_sha256, model_params, max_iters, settings, seed, 'best_val_loss',
        best_val_loss from finished
    union all select policy, policy_revision, data_sha256, model_params, max_iters, settings, seed, 'update_rate',
        update_rate from finished
    union all select policy, policy_revision, data_sha256, model_params, max_iters, settings, seed, 'accept_rate',
        accept_rate from finished
), seeds as (
    -- Runs with one seed are not independent, so their mean counts once.
    select policy, policy_revision, data_sha256, model_params, max_iters, settings, seed, figure, count(*) as runs,
        avg(amount) as amount
    from figures where isfinite(amount) group by all
), groups as (
    select policy, policy_revision, data_sha256, model_params, max_iters, settings, figure, sum(runs)::bigint as runs,
        count(*) as seeds, avg(amount) as mean, stddev_samp(amount) as deviation
    from seeds group by all
)
select g.policy, g.policy_revision, g.max_iters, g.figure, g.runs, g.seeds, g.mean, g.deviation,
    g.mean - coalesce(t.factor, 1.96 + 2.5 / g.seeds) * g.deviation / sqrt(g.seeds) as low,
    g.mean + coalesce(t.factor, 1.96 + 2.5 / g.seeds) * g.deviation / sqrt(g.seeds) as high
from groups g left join t on t.df = g.seeds - 1
where g.seeds > 1 order by g.policy, g.policy_revision, g.max_iters, g.settings, g.figure
