-- Which decisions were made, by plugin, action and reason?
select run_id, plugin, action, reason_code, shadow, count(*) as n
from decisions where not superseded and signed and rank = 0 group by all order by run_id, n desc, plugin, action, reason_code, shadow
