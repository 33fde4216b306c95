-- What test/demo shows, in short: a superuser sets up, role "app" books events, and each becomes a task.

DROP EXTENSION IF EXISTS screenshot_task CASCADE;
DROP TABLE IF EXISTS event;
DO $$ BEGIN CREATE ROLE app LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;

CREATE EXTENSION screenshot_task;
CREATE SERVER tencent_live FOREIGN DATA WRAPPER tencent_cloud
    OPTIONS (endpoint 'https://api', ca_file '/api/ca.pem');
CREATE USER MAPPING FOR app SERVER tencent_live
    OPTIONS (secret_id 'AKIDEXAMPLE', secret_key 'Gu5t9xGARNpq86cd98joQYCN3EXAMPLE');
GRANT USAGE ON FOREIGN SERVER tencent_live TO app;
GRANT INSERT ON screenshot_task_request TO app;

CREATE TABLE event (stream text PRIMARY KEY, starts_at timestamptz, ends_at timestamptz);
GRANT SELECT, INSERT ON event TO app;
CREATE TRIGGER screenshots AFTER INSERT ON event FOR EACH ROW EXECUTE FUNCTION screenshot_task_trigger(
    'stream_name=stream', 'start_time=starts_at', 'end_time=ends_at',
    'domain_name:=5000.livepush.example.com', 'app_name:=live', 'template_id:=20001');

SET ROLE app;
INSERT INTO event VALUES
    ('opening', now() + '1 hour', now() + '2 hours'),
    ('keynote', now() + '2 hours', now() + '3 hours'),
    ('panel', now() + '3 hours', now() + '5 hours');
SELECT r.id, w.stream_name, w.status, w.task_id
    FROM screenshot_task_request AS r, wait_for_screenshot_task(r.id, '30 s') AS w ORDER BY r.id;
