-- Which decision is this?
-- id: decision ID
select d.*, r.meaning, j.git_commit, j.git_changed from decisions d
left join plugin_uses u on u.run_id = d.run_id and u.policy_revision = d.policy_revision and u.plugin = d.plugin
left join reason_codes r on r.reason_code = d.reason_code and r.plugin = u.use
left join runs j on j.run_id = d.run_id where d.decision_id = $id
