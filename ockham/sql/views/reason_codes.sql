-- Meaning of the reason codes of the built-in plugins.
-- plugin: plugin that uses the code
-- reason_code: code
-- meaning: meaning, in one sentence
select plugin, reason_code, meaning from raw_reason_codes
