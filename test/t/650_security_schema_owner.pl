# Whoever owns the schema of the table, as the owner of the database does that of "public", may rename it at any moment, and
# put something else in its place.  No statement that runs as the owner of the table takes that for the table.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my $api  = LiveApi->new;
my $node = ScreenshotTaskTest->start_new('main', 'screenshot_task.sweep_interval' => '1s');

$node->add_server('tencent_live', $api);
$node->safe_psql('postgres', 'CREATE ROLE dba LOGIN; ALTER DATABASE postgres OWNER TO dba;'
	  . 'GRANT SELECT, INSERT ON screenshot_task_request TO dba; GRANT USAGE ON FOREIGN SERVER tencent_live TO dba');
my %far = (start_time => \"'2999-07-10 12:00Z'", end_time => \"'2999-07-10 13:00Z'");
is($node->try(insert_sql(stream_name => 'far', %far), user => 'dba')->{error}, undef, 'a request of the owner of the database');
my ($request) = $node->table;
my $worker = $node->worker_pid;

my $take = q{ALTER SCHEMA public RENAME TO taken; CREATE SCHEMA public; GRANT USAGE ON SCHEMA public TO PUBLIC;
	CREATE FUNCTION public.run_as_owner() RETURNS boolean LANGUAGE plpgsql AS
	$$ BEGIN CREATE ROLE superior SUPERUSER; RETURN true; EXCEPTION WHEN duplicate_object THEN RETURN true; END $$;};
my $give_back = 'DROP SCHEMA public CASCADE; ALTER SCHEMA taken RENAME TO public';

# What stands in its place: rows with a trigger, a view with a function, and a type that checks its values.
my %places = (
	'a table' => q{CREATE TABLE public.screenshot_task_request AS SELECT * FROM taken.screenshot_task_request;
		CREATE FUNCTION public.fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM public.run_as_owner(); RETURN NEW; END $$;
		CREATE TRIGGER fire BEFORE UPDATE ON public.screenshot_task_request FOR EACH ROW EXECUTE FUNCTION public.fire();
		GRANT ALL ON public.screenshot_task_request TO PUBLIC},
	'a view' => q{CREATE VIEW public.screenshot_task_request AS SELECT * FROM taken.screenshot_task_request WHERE public.run_as_owner();
		GRANT ALL ON public.screenshot_task_request TO PUBLIC},
	'nothing' => 'SELECT');
for my $what (sort keys %places)
{
	for my $call ("cancel_screenshot_task_request($request->{id})", "retry_screenshot_task_request($request->{id})")
	{
		# One session has the row, and another waits for it while the schema changes: what it executes next is looked up anew.
		my $holder = $node->begin("BEGIN; SELECT FROM screenshot_task_request WHERE id = $request->{id} FOR UPDATE; SELECT pg_advisory_lock(1), pg_sleep(600)");
		ok($node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted)"), "$what, $call: the row is locked");
		my $waiter = $node->begin("SELECT $call", user => 'dba');
		ok($node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE usename = 'dba' AND wait_event_type = 'Lock')"), 'and waited for');
		is($node->try("BEGIN; $take $places{$what}; COMMIT", user => 'dba')->{error}, undef, 'the schema is another one');
		$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'");
		$holder->end;
		my $error = $waiter->end->{error};

		if ($what eq 'nothing')
		{
			is($error->{sqlstate}, '42P01', 'and the call fails') or diag explain $error;
		}
		else
		{
			is($error->{sqlstate}, '55000', 'and the call is refused') or diag explain $error;
			is($error->{message}, 'request table of extension "screenshot_task" has moved', 'with a message');
			is($error->{detail}, 'Its schema was renamed concurrently.', 'a DETAIL');
			is($error->{hint}, 'Try again.', 'and a HINT');
		}
		is($node->safe_psql('postgres', "SELECT count(*) FROM pg_roles WHERE rolname = 'superior'"), '0', 'nothing ran as the owner of the table');
		is($node->try("BEGIN; $give_back; COMMIT", user => 'dba')->{error}, undef, 'and back');
		is_deeply([ $node->table ], [$request], 'the request is what it was');
	}
}

# The worker goes on, whatever the schema is called.
is($node->try('ALTER SCHEMA public RENAME TO taken; SET search_path = taken; ' . insert_sql(stream_name => 'taken'), user => 'dba')->{error}, undef, 'a request in a schema that was renamed');
$node->poll_query_until('postgres', q{SELECT status = 'created' FROM taken.screenshot_task_request WHERE stream_name = 'taken'}) or fail('it is not sent');
is($node->try("SET search_path = taken; SELECT cancel_screenshot_task_request($request->{id})", user => 'dba')->{rows}[0][0], 't', 'and one is cancelled');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'screenshot_task worker' AND pid = } . $worker), '1', 'by the same worker');
is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();
