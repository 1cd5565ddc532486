-- Which decision is this?
-- id: decision ID
select d.*, r.meaning from decisions d
left join reason_codes r on r.reason_code = d.reason_code and r.plugin = d.plugin where d.decision_id = $id
