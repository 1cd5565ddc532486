-- Which plugins changed which knobs, and by how much? Only plugins that act, not in shadow.
select run_id, plugin, field, count(*) as turns, min(after_value / before_value) as least_factor,
    median(after_value / before_value) as median_factor, max(after_value / before_value) as greatest_factor
from hyperparameter_changes where acting and before not in ('true', 'false') group by all order by run_id, plugin, turns desc, field
