-- Why did the gate update or skip?
-- run: run ID
select d.action, d.reason_code, count(*) as batches, count(*) / sum(count(*)) over () as share, any_value(r.meaning) as meaning
from gate_decisions d left join reason_codes r on r.plugin = 'gate' and r.reason_code = d.reason_code
where d.run_id = $run and d.counted group by d.action, d.reason_code order by batches desc
