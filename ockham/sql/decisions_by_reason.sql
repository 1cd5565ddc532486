-- Which decisions were made, by plugin, action and reason? Also those of plugins in shadow.
select run_id, plugin, action, reason_code, shadow, count(*) as n
from decisions where counted group by all order by run_id, n desc, plugin, action, reason_code, shadow
