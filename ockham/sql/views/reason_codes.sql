-- Meaning of each reason code of the built-in plugins.
-- plugin: name of the plugin
-- reason_code: the code
-- meaning: the meaning in one sentence
select plugin, reason_code, meaning from raw_reason_codes
