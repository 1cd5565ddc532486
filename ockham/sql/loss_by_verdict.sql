-- How high are the losses of skipped and of updated batches? Losses that are not finite are only counted.
select run_id, updated, count(*) as batches, count(*) filter (where not finite) as nonfinite,
    avg(task_loss) filter (where finite) as mean_loss, median(task_loss) filter (where finite) as median_loss,
    min(task_loss) filter (where finite) as lowest_loss, max(task_loss) filter (where finite) as highest_loss
from current_batches group by run_id, updated order by run_id, updated
