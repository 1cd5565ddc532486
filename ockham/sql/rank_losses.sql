-- How far are the losses of the ranks apart? Only runs with several ranks; task_loss is the mean of all ranks.
select run_id, "rank", count(*) as batches, count(*) filter (where not isfinite(rank_loss)) as nonfinite,
    avg(rank_loss) filter (where isfinite(rank_loss)) as mean_loss,
    avg(rank_loss - task_loss) filter (where isfinite(rank_loss - task_loss)) as mean_difference,
    max(abs(rank_loss - task_loss)) filter (where isfinite(rank_loss - task_loss)) as largest_difference,
    arg_max(iter_num, (abs(rank_loss - task_loss), -iter_num)) filter (where isfinite(rank_loss - task_loss)) as largest_iter
from contexts where hook = 'batch' and rank_loss is not null and signed and not superseded
group by run_id, "rank" order by run_id, "rank"
