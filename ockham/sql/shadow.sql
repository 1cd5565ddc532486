-- What would the plugins in shadow mode have done? Their decisions changed nothing.
select run_id, plugin, action, reason_code, count(*) as n, min(iter_num) as first_iter, max(iter_num) as last_iter
from decisions where shadow and counted group by all order by run_id, plugin, n desc, action, reason_code
