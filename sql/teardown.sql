--
-- Away with what setup made, and nothing else is there
--
SET client_min_messages = warning;
DROP FUNCTION outcome, request_with;
DROP ROLE regress_screenshot_app, regress_screenshot_other;
DROP EXTENSION screenshot_task CASCADE;
SELECT srvname FROM pg_foreign_server;
SELECT oid::regclass FROM pg_class WHERE relnamespace = 'public'::regnamespace;
SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'public'::regnamespace;
