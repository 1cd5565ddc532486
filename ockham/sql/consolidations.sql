-- When did the anchor move, and when was it refused?
select run_id, iter_num, plugin, action, reason_code, observed, threshold
from decisions where hook = 'on_evaluate' and action in ('ALLOW', 'REFUSE') and not superseded and rank = 0 order by run_id, iter_num
