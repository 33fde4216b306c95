# The worker under settings that a role or a database gives to all who connect: it sends all the same, and durably.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my $api  = LiveApi->new;
my $node = ScreenshotTaskTest->start_new('main', max_prepared_transactions => 2);

$node->safe_psql('postgres', 'CREATE ROLE app LOGIN; CREATE SCHEMA hostile; GRANT INSERT ON screenshot_task_request TO app');
$node->add_server('tencent_live', $api);
$node->add_server('bad', $api, account => undef);
$node->safe_psql('postgres', 'GRANT USAGE ON FOREIGN SERVER tencent_live, bad TO app');
$node->safe_psql('postgres', $_) for
  q{CREATE FUNCTION hostile.trap(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$},
  q{CREATE FUNCTION hostile.trap(bigint, bigint) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$},
  (map { "CREATE OPERATOR hostile.= (LEFTARG = $_, RIGHTARG = $_, FUNCTION = hostile.trap)" } qw(text bigint));

my %settings = (
	statement_timeout                   => '1ms',
	lock_timeout                        => '1ms',
	idle_in_transaction_session_timeout => '1ms',
	idle_session_timeout                => '1ms',
	default_transaction_read_only       => 'on',
	default_transaction_isolation       => 'serializable',
	default_transaction_deferrable      => 'on',
	synchronous_commit                  => 'off',
	session_replication_role            => 'replica',
	search_path                         => 'hostile, pg_catalog, public',
	row_security                        => 'off',
	exit_on_error                       => 'on',
	check_function_bodies               => 'off',
	default_tablespace                  => 'pg_global',
	temp_file_limit                     => '0',
	work_mem                            => '64kB',
	standard_conforming_strings         => 'off',
	quote_all_identifiers               => 'on',
	transform_null_equals               => 'on',
	array_nulls                         => 'off',
	extra_float_digits                  => '-15',
	DateStyle                           => 'German, DMY',
	IntervalStyle                       => 'sql_standard',
	TimeZone                            => 'Asia/Shanghai',
	bytea_output                        => 'escape',
	client_min_messages                 => 'error',
	enable_indexscan                    => 'off',
	enable_indexonlyscan                => 'off',
	jit_above_cost                      => '0',
	max_parallel_workers_per_gather     => '8',
	parallel_setup_cost                 => '0',
	parallel_tuple_cost                 => '0',
	track_activities                    => 'on');
$settings{transaction_timeout} = '1ms' if $node->safe_psql('postgres', 'SELECT current_setting($$server_version_num$$)::int') >= 170000;

my @targets = ('DATABASE postgres', 'ROLE postgres', 'ROLE ALL', 'ROLE postgres IN DATABASE postgres', 'ROLE app');

# psql has to get in, whatever is set.
$ENV{PGOPTIONS} = join ' ', map { "-c $_=" . ($_ eq 'search_path' ? 'public' : '0') } grep { /timeout|search_path/ } sort keys %settings;
$ENV{PGOPTIONS} .= ' -c default_transaction_read_only=off -c default_transaction_isolation=read\ committed -c session_replication_role=origin -c exit_on_error=off -c row_security=on -c standard_conforming_strings=on -c TimeZone=UTC -c DateStyle=ISO -c IntervalStyle=postgres';
for my $target (@targets)
{
	my $name = $target =~ s/\W+/ /gr;
	my $pid  = $node->worker_pid('postgres');

	$node->safe_psql('postgres', join ';', map { "ALTER $target SET $_ = " . ($_ eq 'search_path' ? $settings{$_} : literal($settings{$_})) } sort keys %settings);
	# One with the settings follows one without.
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'screenshot_task worker' AND pid <> $pid"), "$name: a new worker");
	$pid = $node->worker_pid('postgres');
	# One who cannot send raises an error in the worker; the others have an answer, or none.
	$node->safe_psql('postgres', insert_sql(server => 'bad', stream_name => "$name bad") . insert_sql(rows => 3, stream_name => "$name")
		  . insert_sql(stream_name => "$name month", start_time => \"now() + interval '30 d'", end_time => \"now() + interval '30 d 1 h'"));
	ok($node->wait_for_table("status = 'created' AND attempts = 1", where => "stream_name = '$name'"), "$name: requests are sent");
	is($api->ledger(stream_name => $name), 3, "$name: once each");
	is($node->safe_psql('postgres', "SELECT count(*) FROM screenshot_task_request WHERE stream_name = '$name month' AND next_attempt_at - (start_time - interval '6 d') BETWEEN '0' AND '1 min'"), 1,
		"$name: one of next month has its time");
	is(($node->table("stream_name = '$name bad'"))[0]{status}, 'pending', "$name: one without a mapping waits");
	is($node->worker_pid('postgres'), $pid, "$name: the worker is the same");

	# Its claims and outcomes are on disk.
	$node->stop('immediate');
	$node->start;
	is_deeply([ map { $_->{status} } $node->table("stream_name = '$name'") ], [ ('created') x 3 ], "$name: and what it wrote is there after a crash");
	$node->safe_psql('postgres', "ALTER $target RESET ALL");
}

# Neither can it be disabled so, nor be another role.
for my $setting ('screenshot_task.enabled = off', 'screenshot_task.sweep_interval = 1')
{
	is($node->try("ALTER ROLE postgres SET $setting")->{error}{sqlstate}, '55P02', "$setting: not to be set so");
}
my $pid = $node->worker_pid('postgres');
$ENV{PGOPTIONS} .= ' -c role=none';
$node->safe_psql('postgres', "ALTER ROLE postgres SET role = 'app'; SELECT pg_terminate_backend($pid)");
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'screenshot_task worker' AND pid <> $pid"), 'role: a new worker');
is_deeply($node->try('SET ROLE app;' . insert_sql(stream_name => 'as another'))->{error}, undef, 'role: a request');
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'as another'"), 'role: is sent');
$node->safe_psql('postgres', 'ALTER ROLE postgres RESET role');

# What an owner's trigger sets does not stay.
$node->safe_psql('postgres', q{CREATE FUNCTION sets() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	PERFORM set_config('synchronous_commit', 'off', false), set_config('default_transaction_read_only', 'on', false),
		set_config('search_path', 'hostile, pg_catalog', false), set_config('default_transaction_isolation', 'serializable', false),
		set_config('lock_timeout', '1ms', false);
	RETURN NEW; END $$});
$node->safe_psql('postgres', 'CREATE TABLE seen (setting text)');
$node->safe_psql('postgres', q{CREATE FUNCTION sees() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	INSERT INTO public.seen SELECT pg_catalog.concat_ws(' ', pg_catalog.current_setting('synchronous_commit'), pg_catalog.current_setting('lock_timeout'),
		pg_catalog.current_setting('transaction_isolation'), pg_catalog.current_setting('search_path'));
	RETURN NULL; END $$});
# The one sees, before each statement; the other sets, at each row of it.
$node->safe_psql('postgres', 'CREATE TRIGGER sees BEFORE UPDATE ON screenshot_task_request FOR EACH STATEMENT EXECUTE FUNCTION sees();'
	  . 'CREATE TRIGGER sets BEFORE UPDATE ON screenshot_task_request FOR EACH ROW EXECUTE FUNCTION sets()');
for my $n (1 .. 3)
{
	$node->safe_psql('postgres', insert_sql(stream_name => "set $n"));
	ok($node->wait_for_table("status = 'created'", where => "stream_name = 'set $n'"), "request $n is sent, whatever a trigger sets");
}
is_deeply([ $node->rows('SELECT DISTINCT setting FROM seen') ], [ { setting => 'on 500ms read committed pg_catalog, pg_temp' } ], 'each transaction finds the settings as they should be');

# A sweep that is to be sooner is.
$node->safe_psql('postgres', 'COPY screenshot_task_request (stream_name, domain_name, app_name, end_time, template_id, requested_by, requested_at, stamp)'
	  . q{ FROM PROGRAM $$printf 'copied\td\ta\t2999-07-10 13:00Z\t1\tpostgres\t2999-07-10 12:30Z\t1\n'$$});
$node->set('screenshot_task.sweep_interval' => '1s');
ok(wait_until(sub { $node->log_text =~ /WARNING:  1 screenshot task request is held: it came in a dump or a copy of a database\n.*DETAIL:  It is not sent because it may already have been carried out, .*\n.*HINT:  Use adopt_screenshot_task_requests\(\) to have it sent from this database\./ }), 'a shorter screenshot_task.sweep_interval holds from the reload on');
is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();
